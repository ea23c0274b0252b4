"""Pipelines as programs for torchvision and for Albumentations, with the same effect as here.

A step writes one expression of ``x``, a float image (C, H, W) in [0, 1]. Where a library does the same at every size,
the step may name the library's transform instead; where it does not, the program carries a small function of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from core.augment.pipeline import Pipeline, Step


@dataclass(frozen=True)
class Library:
    """How a pipeline is written for a library.

    Attributes:
        tried: The versions with which the programs were tried; the tests run them with these.
        images: What the program augments.
        line: The import of the library.
        function: What runs the ``code`` of a step, with a ``name``: a lambda cannot be sent to another process.
        step: The transform that calls it.
        partly: A ``transform`` for a share ``p`` of the images.
        nothing: The transform that changes nothing.
        compose: What joins transforms.
    """

    tried: str
    images: str
    line: str
    function: str
    step: str
    partly: str
    nothing: str
    compose: str


LIBRARIES = {
    "torchvision": Library(
        tried="torchvision 0.29.1",
        images="float32 images (C, H, W) in [0, 1], one at a time",
        line="from torchvision.transforms import v2",
        function="def {name}(x):\n    return {code}\n",
        step="v2.Lambda({name})",
        partly="v2.RandomApply([{transform}], p={p})",
        nothing="v2.Identity()",
        compose="v2.Compose",
    ),
    "albumentations": Library(
        tried="Albumentations 2.0.8 and AlbumentationsX 2.5.1",
        images="arrays (H, W, C) or (H, W), of bytes or of float32 in [0, 1]",
        line="import albumentations as A",
        function="def {name}(image, **_):\n    return changed(image, lambda x: {code})\n",
        step="A.Lambda(image={name}, p={{p}})",
        partly="{transform}",
        nothing="A.NoOp()",
        compose="A.Compose",
    ),
}

# Each function of a program, and the imports that it needs beside torch. They call each other by name.
_FUNCTIONS = {
    "affine": '''
def affine(x, angle=0.0, shift=(0.0, 0.0), scale=1.0, shear=(0.0, 0.0), fill="border"):
    """Turns and slants (degrees), zooms and shifts (share of the size) an image about its middle."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    slant = [math.tan(math.radians(s)) for s in shear]
    inner = torch.tensor([[cos, -sin], [sin, cos]]) @ torch.tensor([[1, slant[0]], [slant[1], 1]])
    inner = inner / scale
    move = -(inner @ (2 * torch.tensor(shift)))
    return sampled(x, torch.cat([inner, move[:, None]], 1), fill)
''',
    "sampled": '''
def sampled(x, matrix, fill, bend=0.0):
    """Reads an image where a map, (2, 3) or (3, 3), leads from each point of the result, in -1 ... 1."""
    size = [1, 1, *x.shape[1:]]
    plain = nn.functional.affine_grid(torch.eye(2, 3)[None], size, align_corners=False)[0]
    points = torch.cat([plain, torch.ones_like(plain[..., :1])], 2) @ matrix.T
    points = points[..., :2] / points[..., 2:] if len(matrix) == 3 else points
    grid = (points + bend)[None]
    return nn.functional.grid_sample(x[None], grid, padding_mode=fill, align_corners=False)[0]
''',
    "cropped": '''
def cropped(x, kept, stretch):
    """Cuts out a part with a share of the area, anywhere, and enlarges it."""
    aspect = min(1 / kept, stretch) ** random.uniform(-1, 1)
    wide, high = (kept * aspect) ** 0.5, (kept / aspect) ** 0.5
    right, down = random.uniform(-1, 1) * (1 - wide), random.uniform(-1, 1) * (1 - high)
    return sampled(x, torch.tensor([[wide, 0, right], [0, high, down]]), "border")
''',
    "tilted": '''
def tilted(x, corners, fill):
    """Moves the corners of an image inwards by shares of half its size, (4, 2)."""
    end = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    rows, ends = [], []
    for (u, v), (a, b) in zip((end * (1 - corners)).tolist(), end.tolist()):
        rows += [[u, v, 1, 0, 0, 0, -a * u, -a * v], [0, 0, 0, u, v, 1, -b * u, -b * v]]
        ends += [a, b]
    solved = torch.linalg.solve(torch.tensor(rows), torch.tensor(ends))
    return sampled(x, torch.cat([solved, torch.ones(1)]).view(3, 3), fill)
''',
    "bent": '''
def bent(x, field, fill):
    """Bends an image by shifts of some points, (2, knots, knots), in shares of its size."""
    size = x.shape[1:]
    bend = nn.functional.interpolate(field[None], size, mode="bicubic", align_corners=True)[0]
    return sampled(x, torch.eye(2, 3), fill, 2 * bend.permute(1, 2, 0))
''',
    "grey": '''
def grey(x):
    """Gives the brightness of an image, (1, H, W)."""
    return x if len(x) == 1 else (x * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, True)
''',
    "brighter": '''
def brighter(x, factor):
    """Multiplies the brightness."""
    return (x * factor).clamp(0, 1)
''',
    "contrasted": '''
def contrasted(x, factor):
    """Moves pixels away from the mean brightness, or towards it."""
    mean = grey(x).mean()
    return (mean + (x - mean) * factor).clamp(0, 1)
''',
    "coloured": '''
def coloured(x, factor):
    """Moves colours away from grey, or towards it."""
    return (grey(x) + (x - grey(x)) * factor).clamp(0, 1)
''',
    "turned": '''
def turned(x, degrees):
    """Turns the colours about the grey axis."""
    if len(x) == 1:
        return x
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / 3**0.5
    matrix = cos * torch.eye(3) + sin * cross + (1 - cos) / 3
    return (matrix @ x.flatten(1)).view(x.shape).clamp(0, 1)
''',
    "solarised": '''
def solarised(x, threshold):
    """Inverts what is brighter than a threshold."""
    return torch.where(x > threshold, 1 - x, x)
''',
    "posterised": '''
def posterised(x, bits):
    """Keeps the highest bits of each level."""
    step = 2 ** (8 - bits)
    return x if bits >= 8 else torch.floor((x * 255).round() / step) * step / 255
''',
    "equalised": '''
def equalised(x):
    """Spreads the brightness levels of each channel evenly."""
    channels = []
    for channel in (x * 255).round().long():
        counts = torch.bincount(channel.flatten(), minlength=256)
        first, total = counts[channel.min()], channel.numel()
        table = (counts.cumsum(0) - first) / max(1, total - int(first))
        channels.append(channel / 255 if first == total else table[channel].clamp(0, 1))
    return torch.stack(channels)
''',
    "stretched": '''
def stretched(x):
    """Stretches the brightness of each channel to the full range."""
    low, high = x.amin((1, 2), True), x.amax((1, 2), True)
    return torch.where(high > low, (x - low) / (high - low).clamp_min(1e-6), x)
''',
    "blurred": '''
def blurred(x, sigma):
    """Blurs by a Gaussian; at the edge the weights inside are scaled up to 1."""
    for _ in range(2):  # rows, then columns
        pixel = torch.arange(x.shape[2], dtype=torch.float32)
        weights = torch.exp(-((pixel[:, None] - pixel) ** 2) / (2 * max(sigma, 1e-3) ** 2))
        x = (x @ (weights / weights.sum(1, keepdim=True)).T).transpose(1, 2)
    return x.clamp(0, 1)
''',
    "sharpened": '''
def sharpened(x, factor):
    """Goes from a slightly blurred image (0) over the image (1) to a sharper one (2)."""
    soft = blurred(x, 0.8)
    return (soft + (x - soft) * factor).clamp(0, 1)
''',
    "salted": '''
def salted(x, share):
    """Turns a share of the pixels black or white."""
    u = torch.rand(1, *x.shape[1:])
    return torch.where(u < share / 2, 0.0, torch.where(u > 1 - share / 2, 1.0, x))
''',
    "jpeg": '''
def jpeg(x, quality):
    """Compresses an image as a camera does; at 100 it stays."""
    if quality >= 100:
        return x
    levels = (x * 255).round().byte().permute(1, 2, 0).numpy()
    memory = io.BytesIO()
    Image.fromarray(levels[..., 0] if len(x) == 1 else levels).save(memory, "JPEG", quality=quality)
    back = torch.from_numpy(np.array(Image.open(memory))).float() / 255
    return back[None] if len(x) == 1 else back.permute(2, 0, 1)
''',
    "erased": '''
def erased(x, covered, fill):
    """Covers a box with a share of the area by the mean of the image ("grey"), black or noise."""
    height, width = x.shape[1:]
    wide = min(1.0, (covered * math.exp(random.uniform(-0.7, 0.7))) ** 0.5)
    high = min(1.0, covered / max(wide, 1e-6))
    wide = covered if high >= 1 else wide
    inside = []
    for length, count in ((high, height), (wide, width)):
        pixel, start = (torch.arange(count) + 0.5) / count, random.random() * (1 - length)
        inside.append((pixel >= start) & (pixel < start + length))
    cover = {"grey": x.mean((1, 2), True), "black": torch.zeros(1), "noise": torch.rand(x.shape)}
    return torch.where(inside[0][:, None] & inside[1], cover[fill], x)
''',
    "shuffled": '''
def shuffled(x, tiles):
    """Shuffles the tiles of an image; what does not fill a tile stays."""
    high, wide = x.shape[1] // tiles, x.shape[2] // tiles
    corners = [(high * i, wide * j) for i in range(tiles) for j in range(tiles)]
    result = x.clone()
    for (top, left), (y, z) in zip(corners, random.sample(corners, len(corners))):
        result[:, top : top + high, left : left + wide] = x[:, y : y + high, z : z + wide]
    return result
''',
    "operated": '''
def operated(x, name, m, fill):
    """Applies an operation at a magnitude of -1 ... 1, at which 0 changes nothing."""
    operations = {
        "rotate": lambda: affine(x, angle=30 * m, fill=fill),
        "shift x": lambda: affine(x, shift=(0.45 * m, 0.0), fill=fill),
        "shift y": lambda: affine(x, shift=(0.0, 0.45 * m), fill=fill),
        "slant x": lambda: affine(x, shear=(math.degrees(math.atan(0.3 * m)), 0.0), fill=fill),
        "slant y": lambda: affine(x, shear=(0.0, math.degrees(math.atan(0.3 * m))), fill=fill),
        "brightness": lambda: brighter(x, 1 + 0.9 * m),
        "contrast": lambda: contrasted(x, 1 + 0.9 * m),
        "colour": lambda: coloured(x, 1 + 0.9 * m),
        "sharpness": lambda: sharpened(x, 1 + 0.9 * m),
        "solarise": lambda: solarised(x, 1 - abs(m)),
        "posterise": lambda: posterised(x, 8 - round(4 * abs(m))),
        "equalise": lambda: x.lerp(equalised(x), abs(m)),
        "stretch": lambda: x.lerp(stretched(x), abs(m)),
        "invert": lambda: x.lerp(1 - x, float(math.ceil(abs(m)))),
        "nothing": lambda: x,
    }
    return operations[name]().clamp(0, 1)
''',
    "several": '''
def several(x, names, count, magnitude, fill):
    """Applies some operations, one after the other, all at one strength."""
    for _ in range(count):
        x = operated(x, random.choice(names), random.choice((-1, 1)) * magnitude, fill)
    return x
''',
    "paired": '''
def paired(x, pairs, fill):
    """Applies one pair of operations: name, probability and magnitude of each."""
    for name, chance, magnitude in random.choice(pairs):
        if random.random() < chance:
            x = operated(x, name, random.choice((-1, 1)) * magnitude, fill)
    return x
''',
    "mixed": '''
def mixed(x, names, width, magnitude, fill):
    """Mixes a few short chains of operations with the image."""
    shares, mean = torch.rand(width).clamp_min(1e-9).log().neg(), torch.zeros_like(x)
    for share in shares / shares.sum():
        part = x
        for _ in range(random.randint(1, 3)):
            part = operated(part, random.choice(names), random.uniform(-magnitude, magnitude), fill)
        mean = mean + share * part
    return mean.lerp(x, random.random()).clamp(0, 1)
''',
    "changed": '''
def changed(image, change):
    """Changes an array (H, W, C) or (H, W), of bytes or of floats in [0, 1]."""
    levels = 255 if image.dtype == np.uint8 else 1
    x = torch.from_numpy(np.ascontiguousarray(image)).float() / levels
    y = change(x[None] if x.ndim == 2 else x.permute(2, 0, 1).contiguous()) * levels
    y = (y.round() if levels == 255 else y).permute(1, 2, 0).numpy().astype(image.dtype)
    return y[..., 0] if image.ndim == 2 else np.ascontiguousarray(y)
''',
}
_IMPORTS = {
    "io": "import io",
    "math": "import math",
    "random": "import random",
    "np": "import numpy as np",
    "Image": "from PIL import Image",
    "torch": "import torch",
    "nn": "from torch import nn",
}

_STANDARD = {"import io", "import math", "import random"}


def program(pipeline: Pipeline, dialect: str) -> str:
    """Writes a pipeline as a program for one of :data:`LIBRARIES`."""
    library = LIBRARIES[dialect]
    transforms, functions, absent = [], [], []
    for number, step in enumerate(pipeline.steps, 1):
        if not step.on:
            continue
        code, transform = _code(step, dialect)
        if not code:
            absent.append(f"# {step.title} is left out: it {step.entry.absent}.")
            continue
        if not transform:
            name = f"step_{number}_{step.name}"
            functions.append(library.function.format(name=name, code=code))
            transform = library.step.format(name=name)
        p = f"{step.probability:g}"
        if step.probability < 1:
            transform = library.partly.format(transform=transform, p=p)
        transforms.append(f"    {transform.replace('{p}', p)},\n")
    transforms = "".join(transforms) or f"    {library.nothing},\n"
    functions.append(f"augment = {library.compose}([\n{transforms}])\n")
    functions = [*_called("\n".join(functions)), *functions]
    text = "\n".join(functions)
    imports = [line for name, line in _IMPORTS.items() if re.search(rf"(?<![\w.]){name}\.", text)]
    standard = [line for line in imports if line in _STANDARD]
    others = [line for line in [*imports, library.line] if line not in _STANDARD]
    others.sort(key=lambda line: (line.startswith("from"), line.lower()))
    title = re.sub(r"[^\w .,+-]", "_", pipeline.name) or "Augmentation"
    head = f'"""{title}, for {library.images}.\n\nMade by Simulacra for {library.tried}, with which it was tried.\n"""'
    parts = [head, "\n".join(standard), "\n".join(others), "\n".join(absent)]
    return (
        "\n\n".join(part for part in parts if part)
        + "\n\n\n"
        + "\n\n".join(function.lstrip("\n") for function in functions)
    )


def _code(step: Step, dialect: str) -> tuple[str, str]:
    """Gives the step's expression, and the library's transform that does the same; empty where there is none."""
    entry = step.entry
    config = entry.config.of(step.config, step.name)
    code, transform = entry.code, getattr(entry, dialect)
    return (code(config) if code else ""), (transform(config) if transform else "")


def _called(text: str) -> list[str]:
    """Gives the functions that a text calls, and those that they call."""
    called: set[str] = set()
    texts = [text]
    while texts:
        text = texts.pop()
        for name, code in _FUNCTIONS.items():
            if name not in called and re.search(rf"(?<![\w.]){name}\(", text):
                called.add(name)
                texts.append(code)
    return [code for name, code in _FUNCTIONS.items() if name in called]
