"""How surely the invisible watermark is found, and how often it is seen where none is.

False alarms are counted on crops of photographs and on enlarged small pictures, apart, searched as ``detect`` does.
What is marked is scaled by up to 10 % either way and then saved as JPEG at quality 75; crops lose 10 % of each side.
Photographs are whatever lies in a folder: of Debian, the packages gnome-backgrounds, mate-backgrounds and
plasma-workspace-wallpapers, unpacked by ``dpkg -x``.

    python -m benchmarks.watermark --photos FOLDER --small FOLDER [--count 10000] [--found 1000] [--side 64] [--dry]

Without one of the folders the other is measured alone. What takes too long for one sitting is done in several with
``--tally FILE``: each goes on with other pictures, and the row is of all that were searched so far.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import evidence
from core.building.watermark import THRESHOLD, Watermark
from core.ground.stats import proportion

_KEY = Watermark(b"a key that is known to nobody!!!")
_HELD = 80  # photographs in memory
_LARGEST = 1600  # pixels of a side that they are held in


def photographs(folder: Path) -> list[Image.Image]:
    """Gives photographs of a folder: of several sizes of one, as wallpapers have them, the largest."""
    best: dict[Path, tuple[int, Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp") or path.is_symlink():
            continue
        sized = path.parent.name == "images" or path.stem.rpartition("_")[2].count("x") == 1
        with Image.open(path) as picture:
            area = picture.size[0] * picture.size[1]
        if area >= 256**2 and "screenshot" not in path.name:
            key = path.parent if sized else path
            best[key] = max(best.get(key, (0, path)), (area, path))
    chosen = [path for _, path in best.values()]
    held = []
    for path in chosen[:: -(-len(chosen) // _HELD)]:
        with Image.open(path) as picture:
            plain = picture.convert("RGB")
        plain.thumbnail((_LARGEST, _LARGEST))
        held.append(plain)
    return held


def crops(photos: list[Image.Image], side: int, draw: np.random.Generator) -> Iterator[Image.Image]:
    """Yields squares of photographs, cut anywhere, of one to as many sides as fit, scaled to one side."""
    while True:
        photo = photos[draw.integers(len(photos))]
        least = min(photo.size)
        cut = int(side * (least / side) ** draw.random())
        left, top = (int(draw.integers(length - cut + 1)) for length in photo.size)
        square = photo.crop((left, top, left + cut, top + cut))
        yield square.resize((side, side), Image.Resampling.LANCZOS)


def enlarged(files: list[Path], side: int, draw: np.random.Generator) -> Iterator[Image.Image]:
    """Yields small pictures, scaled up, each once before any comes again, and never the same part of it."""
    while True:
        for number in draw.permutation(len(files)):
            with Image.open(files[number]) as picture:
                cut = int(draw.integers(min(picture.size) * 3 // 4, min(picture.size) + 1))
                left, top = (int(draw.integers(length - cut + 1)) for length in picture.size)
                square = picture.convert("RGB").crop((left, top, left + cut, top + cut))
            yield square.resize((side, side), Image.Resampling.BICUBIC)


def jpeg(picture: Image.Image, quality: int = 75) -> Image.Image:
    """Saves a picture as JPEG and opens it again."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return Image.open(out).convert("RGB")


def marked(picture: Image.Image) -> tuple[Image.Image, float]:
    """Marks a picture; gives its distance from what it was, in dB, too."""
    was = np.asarray(picture)
    now = _KEY.write(was.transpose(2, 0, 1)).transpose(1, 2, 0)
    far = float(((now.astype(np.float64) - was) ** 2).mean())
    return Image.fromarray(now), 10 * np.log10(255**2 / far)


def told(line: str, conditions: str, dry: bool) -> None:
    """Prints a figure, and keeps its row unless it is a trial."""
    print(line, flush=True) if dry else evidence.row(line, conditions)


def main() -> None:
    """Counts false alarms, then what is found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path, help="a folder of photographs")
    parser.add_argument("--small", type=Path, help="a folder of small pictures")
    parser.add_argument("--count", type=int, default=10_000, help="pictures without a mark")
    parser.add_argument("--found", type=int, default=1000, help="pictures with one")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--tally", type=Path, help="JSON of the false alarms so far, which goes on")
    parser.add_argument("--dry", action="store_true", help="print only, keep docs/evidence.md")
    asked = parser.parse_args()
    if not asked.photos and not asked.small:
        parser.error("name --photos or --small")
    side = asked.side
    tally = json.loads(asked.tally.read_text()) if asked.tally and asked.tally.exists() else {}
    draw = np.random.default_rng([14, *([tally["sittings"]] if tally else [])])
    tally["sittings"] = tally.get("sittings", 0) + 1
    sources = []
    if asked.photos:
        photos = photographs(asked.photos)
        pictures = crops(photos, side, draw)
        sources.append((f"crops of photographs, {side} px", pictures, f"{len(photos)} pictures"))
    if asked.small:
        small = [path for path in sorted(asked.small.rglob("*")) if path.suffix in (".png", ".jpg")]
        pictures = enlarged(small, side, draw)
        sources.append((f"enlarged CIFAR-10, {side} px", pictures, f"{len(small)} pictures"))
    for what, pictures, of in sources:
        began = time.perf_counter()
        highest, alarms, count, seconds = tally.get(what, (0.0, 0, 0, 0.0))
        for _ in range(asked.count):
            strength = _KEY.strength(next(pictures))
            highest, alarms = max(highest, strength), alarms + int(strength > THRESHOLD)
        count, seconds = count + asked.count, seconds + time.perf_counter() - began
        tally[what] = (highest, alarms, count, seconds)
        if asked.tally:
            asked.tally.write_text(json.dumps(tally), "utf-8")
        ms = seconds / max(1, count) * 1e3
        bound = proportion(alarms, count).high
        told(
            f"watermark, false alarms, {what}: {alarms} of {count:,}, upper 95 % bound {bound:.1e}; the "
            f"strongest {highest:.2f} beside the threshold {THRESHOLD}",
            f"of {of}, all scales searched, {ms:.0f} ms each",
            asked.dry,
        )
        if not asked.found:
            continue
        seen = {"after scaling by up to 10 % and JPEG 75": 0, "after a crop by 10 % and JPEG 75": 0}
        scaled, cropped = seen
        distances = []
        for _ in range(asked.found):
            mark, far = marked(next(pictures))
            distances.append(far)
            size = round(side * draw.uniform(0.9, 1.1))
            seen[scaled] += _KEY.found(jpeg(mark.resize((size, size), Image.Resampling.BICUBIC)))
            cut = round(side * 0.9)
            left, top = (int(at) for at in draw.integers(side - cut + 1, size=2))
            seen[cropped] += _KEY.found(jpeg(mark.crop((left, top, left + cut, top + cut))))
        for way, count in seen.items():
            rate = proportion(count, asked.found)
            told(
                f"watermark found {way}, {what}: {rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}] of {asked.found:,}",
                f"of {of}, threshold {THRESHOLD}, PSNR {min(distances):.1f} to {max(distances):.1f} dB",
                asked.dry,
            )


if __name__ == "__main__":
    main()
