"""Pipelines as programs of other libraries: every step at both ends of every knob, executed, against our own."""

from __future__ import annotations

import functools
import pickle
import random
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
import torchvision

from core import augment
from core.augment import (
    Chain,
    Context,
    Pipeline,
    Step,
    augmentations,
    colour,
    exports,
    geometry,
    noise_blur,
)
from core.augment.policies import NAMES, operated
from core.catalog import UserError

STEPS = [e.name for e in augmentations if e.code]
LEFT_OUT = {"mixup", "cutmix", "sample", "neighbour", "repair"}


def images(n: int, channels: int, size: int) -> torch.Tensor:
    """Smooth images that reach black and white, as pictures do."""
    rough = torch.rand(n, channels, 4, 4, generator=torch.Generator().manual_seed(size))
    x = torch.nn.functional.interpolate(1.4 * rough - 0.2, (size, size), mode="bicubic")
    return (x.clamp(0, 1) * 255).round() / 255


def ends(name: str) -> list[dict[str, object]]:
    """Gives the defaults, and each knob at each end, or at each of its choices."""
    found: list[dict[str, object]] = [{}]
    for knob in augmentations.get(name).config.knobs().values():
        values = knob.options or ((False, True) if knob.type is bool else (knob.low, knob.high))
        found += [{knob.name: knob.type(value)} for value in values if value != knob.default]
    return found


CASES = [(name, config) for name in STEPS for config in ends(name)]


@functools.cache
def program(text: str) -> ModuleType:
    """Executes a program as the file of a module."""
    made = ModuleType(f"exported_{abs(hash(text))}")
    sys.modules[made.__name__] = made
    exec(compile(text, made.__name__, "exec"), made.__dict__)
    return made


@pytest.fixture(autouse=True)
def drawn():
    """Gives every test the same random numbers, and leaves none behind."""
    state = random.getstate()
    random.seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    random.setstate(state)


def ours(step: Step, x: torch.Tensor, draws: int) -> torch.Tensor:
    many = x.repeat(draws, 1, 1, 1)
    return Chain(Pipeline((step,)), Context())(many, 5, range(len(many)))


def theirs_torchvision(step: Step, x: torch.Tensor, draws: int) -> torch.Tensor:
    change = program(augment.export(Pipeline((step,)), "torchvision")).augment
    random.seed(0)  # beartype draws from it, too, whenever it checks an annotation
    return torch.stack([change(image) for _ in range(draws) for image in x])


def changes(made: torch.Tensor, x: torch.Tensor) -> float:
    """Mean change of a pixel."""
    return float((made - x.repeat(len(made) // len(x), 1, 1, 1)).abs().mean())


def alike(mine: torch.Tensor, theirs: torch.Tensor, x: torch.Tensor, name: str) -> None:
    """The same effect: both leave the images alone, or both change them by about as much, and to the same mean."""
    assert theirs.shape == mine.shape
    assert theirs.dtype == torch.float32
    assert 0 <= float(theirs.min()) <= float(theirs.max()) <= 1
    one, other = changes(mine, x), changes(theirs, x)
    if one < 1e-4 or other < 1e-4:
        assert one == pytest.approx(other, abs=2e-3), name
        return
    assert 0.5 < other / one < 2, name
    assert float(theirs.mean()) == pytest.approx(float(mine.mean()), abs=0.15), name


def test_a_program_is_written_for_every_step_or_says_why_not():
    assert {e.name for e in augmentations if "picture" in e.takes} - set(STEPS) == LEFT_OUT
    for name in LEFT_OUT:
        for dialect in ("torchvision", "albumentations"):
            text = augment.export(Pipeline((Step(name, {}),)), dialect)
            assert f"# {augmentations.get(name).title} is left out: it " in text
    with pytest.raises(UserError, match=r"There is no recipe format 'yml'. Did you mean 'yaml'\?"):
        augment.export(Pipeline(), "yml")


def test_a_program_names_the_versions_that_it_was_tried_with():
    assert torchvision.__version__.split("+")[0] in exports.LIBRARIES["torchvision"].tried
    for dialect, library in exports.LIBRARIES.items():
        assert f"Made by Simulacra for {library.tried}" in augment.export(Pipeline(), dialect)


@pytest.mark.parametrize("name", STEPS)
def test_the_torchvision_program_has_the_effect_of_the_step_at_both_ends_of_every_knob(name):
    for config in ends(name):
        step = Step.of(name, config, 1.0)
        for channels in (1, 3):
            x = images(5, channels, 8)
            alike(
                ours(step, x, 8), theirs_torchvision(step, x, 8), x, f"{name} {config} {channels}"
            )


@pytest.mark.parametrize("channels", [1, 3])
def test_every_program_runs_at_128_px_and_changes_what_our_step_changes(channels):
    x = images(1, channels, 128)
    for name, config in CASES:
        step = Step.of(name, config, 1.0)
        theirs = theirs_torchvision(step, x, 3)
        assert theirs.shape[1:] == x.shape[1:]
        if name not in ("auto_augment", "trivial_augment", "rand_augment", "aug_mix"):
            mine = ours(step, x, 3)  # a policy may draw nothing
            assert (changes(theirs, x) > 2e-6) == (changes(mine, x) > 2e-6), (name, config)


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 8), (1, 33), (3, 33)])
def test_the_functions_of_a_program_are_our_steps_to_the_number(channels, size):
    every = program(
        "\n".join(exports._IMPORTS.values()) + "\n" + "\n".join(exports._FUNCTIONS.values())
    )
    x = images(1, channels, size)

    def value(number: float) -> torch.Tensor:
        return torch.tensor([number])

    def equal(mine: torch.Tensor, theirs: torch.Tensor, what: str) -> None:
        assert torch.allclose(mine[0], theirs, atol=1e-5), what

    for fill, theirs in geometry.PADDING.items():
        matrix = geometry.matrices(
            value(31.0), value(0.7), torch.tensor([[0.1, -0.3]]), torch.tensor([[9.0, 4.0]])
        )
        made = every.affine(x[0], 31.0, (0.1, -0.3), 0.7, (9.0, 4.0), theirs)
        equal(geometry.moved(x, matrix, fill), made, "affine")
        corners = torch.rand(1, 4, 2, generator=torch.Generator().manual_seed(1)) * 0.4
        tilt = geometry.Perspective(geometry.PerspectiveConfig(fill=fill), Context())
        equal(
            tilt.apply(x, {"_corners": corners}), every.tilted(x[0], corners[0], theirs), "tilted"
        )
        field = torch.rand(1, 2, 3, 3, generator=torch.Generator().manual_seed(2)) * 0.2
        bend = geometry.Elastic(geometry.ElasticConfig(fill=fill), Context())
        equal(bend.apply(x, {"_field": field}), every.bent(x[0], field[0], theirs), "bent")
        for number, name in enumerate(NAMES):
            for size_of in (-1.0, -0.4, 0.0, 0.4, 1.0):
                mine = operated(x, torch.tensor([number]), value(size_of), fill)
                equal(mine, every.operated(x[0], name, size_of, theirs), name)
    for sigma in (0.0, 0.5, 4.0, 10.0):
        equal(noise_blur.blurred(x, value(sigma)), every.blurred(x[0], sigma), "blurred")
    equal(colour.turned(x, value(50.0)), every.turned(x[0], 50.0), "turned")
    for bits in range(1, 9):
        equal(colour.posterised(x, value(bits)), every.posterised(x[0], bits), "posterised")
    whole = augmentations.get("jpeg").make(augmentations.get("jpeg").config(), Context())
    for quality in (1, 40, 99, 100):
        equal(whole.apply(x, {"quality": value(quality)}), every.jpeg(x[0], quality), "jpeg")


def test_equalise_and_tilt_do_something_at_the_sizes_where_torchvision_does_nothing():
    for name, config, size in (("equalise", {}, 16), ("perspective", {"share": 0.2}, 8)):
        x = images(4, 1, size) * 0.5
        step = Step.of(name, config, 1.0)
        mine, theirs = changes(ours(step, x, 20), x), changes(theirs_torchvision(step, x, 20), x)
        assert mine > 0.01
        assert theirs == pytest.approx(mine, rel=0.25)


def test_no_policy_leaves_an_image_blank():
    """torchvision's TrivialAugmentWide shifts by 32 px at every size, and blanks 2 % of the images of 28 px."""
    x = images(1, 1, 28)
    for name in ("trivial_augment", "rand_augment"):
        step = Step.of(name, {"fill": "black"}, 1.0)
        for made in (ours(step, x, 400), theirs_torchvision(step, x, 60)):
            assert float(made.flatten(1).std(1).min()) > 1 / 255


def test_a_whole_chain_is_one_program_that_travels_to_another_process():
    steps = [Step.of(name, None, 0.5) for name in STEPS]
    chain = Pipeline((*steps, Step.of("rotate", {"degrees": 5}, 1.0)), 'Some "name" \\ of mine')
    text = augment.export(chain, "torchvision")
    assert "lambda" not in text.split("augment = ")[1]
    made = program(text).augment
    x = images(1, 3, 16)[0]
    assert pickle.loads(pickle.dumps(made))(x).shape == x.shape
    off = augment.export(Pipeline((Step.of("rotate", None, 1.0, on=False),)), "torchvision")
    assert torch.equal(program(off).augment(x), x)


# --- Albumentations ---------------------------------------------------------------------------------------------------


def test_the_albumentations_program_does_the_same_in_the_version_that_is_installed():
    A = pytest.importorskip("albumentations")
    assert A.__version__ in exports.LIBRARIES["albumentations"].tried
    tried(A)


def tried(A: ModuleType) -> None:
    """Executes the program of every step at both ends, on bytes and on floats, grey and colour."""
    for name, config in CASES:
        step = Step.of(name, config, 1.0)
        made = program(augment.export(Pipeline((step,)), "albumentations"))
        assert isinstance(made.augment, A.Compose)
        # the same draws, without the library
        expression, _ = exports._code(step, "albumentations")
        plain = eval(f"lambda x: {expression}", made.__dict__)
        for size, channels in ((8, 1), (8, 3), (128, 3)):
            agree(made.augment, plain, images(1, channels, size)[0], f"{name} {config}")
    flat = program(augment.export(Pipeline((Step.of("rotate"),)), "albumentations")).augment
    assert flat(image=np.zeros((9, 7), np.uint8))["image"].shape == (9, 7)


def agree(augmented, plain, x: torch.Tensor, what: str) -> None:
    array = np.ascontiguousarray(x.permute(1, 2, 0).numpy())
    wanted = seeded(plain, x).permute(1, 2, 0).numpy()
    floats = seeded(augmented, image=array)["image"]
    levels = seeded(augmented, image=(array * 255).round().astype(np.uint8))["image"]
    assert (floats.dtype, levels.dtype) == (np.float32, np.uint8)
    assert np.allclose(floats, wanted, atol=1e-6), what
    assert np.abs(levels / 255 - wanted).max() < 0.51 / 255, what


def seeded(act, *args, **named):
    random.seed(7)
    torch.manual_seed(7)
    return act(*args, **named)
