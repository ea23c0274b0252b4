#!/usr/bin/env bash
# Pillow turns and measures 16-bit grey pictures byte by byte, without an error.
#
# Expected: turning a flat picture (every pixel 40 000, mode I;16, as a 16-bit PNG or TIFF opens) with a filter leaves
#   40 000 in the middle, as turning without a filter, resizing with one and mode I do; ImageStat gives the mean 40 000.
#   Where Pillow cannot work on I;16 (blur, autocontrast, difference …) it raises, so what does not raise is trusted.
# Seen: rotate and transform (affine, perspective, quad, extent) with bilinear or bicubic give about 110: the average of
#   the two bytes of 40 000 (64 and 156). ImageStat gives the mean 110 and the extrema 64 and 156, while getextrema()
#   is right. On mode I (32 bits) rotate is right, and ImageStat gives 0.
# Met while bringing 12-bit and 16-bit medical pictures; what helps: read into numpy at once, and turn floats.
# Versions: Pillow 13.0.0, numpy 2.4.6, Python 3.11, Linux x86-64. Date: 2026-11-29.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/python" -m pip install --quiet --disable-pip-version-check pillow==13.0.0 numpy==2.4.6
"$tmp/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
from PIL import Image, ImageStat

flat = Image.fromarray(np.full((16, 16), 40_000, np.uint16))
deep = flat.convert("I")
bilinear = Image.Resampling.BILINEAR


def middle(image: Image.Image) -> int:
    return int(np.asarray(image)[image.height // 2, image.width // 2])


rows = {
    "resize, bilinear": (middle(flat.resize((8, 8), bilinear)), 40_000),
    "rotate 10°, nearest": (middle(flat.rotate(10)), 40_000),
    "rotate 90°, bilinear": (middle(flat.rotate(90, bilinear)), 40_000),
    "rotate 45°, bilinear": (middle(flat.rotate(45, bilinear)), 110),
    "rotate 45°, bicubic": (middle(flat.rotate(45, Image.Resampling.BICUBIC)), 110),
    "shift by half a pixel, bilinear": (
        middle(flat.transform((16, 16), Image.Transform.AFFINE, (1, 0, 0.5, 0, 1, 0), bilinear)),
        110,
    ),
    "rotate 45°, bilinear, mode I": (middle(deep.rotate(45, bilinear)), 40_000),
    "getextrema": (flat.getextrema(), (40_000, 40_000)),
    "ImageStat mean": (ImageStat.Stat(flat).mean[0], 110.0),
    "ImageStat extrema": (ImageStat.Stat(flat).extrema[0], (64, 156)),
    "ImageStat mean, mode I": (ImageStat.Stat(deep).mean[0], 0),
}
for name, (value, _) in rows.items():
    print(f"{name:33} {value}")
sys.exit(any(value != seen for value, seen in rows.values()))
PYTHON
