"""Films as files: many images as GIF, WebP or MP4, with the settings that made them inside."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from core.catalog import UserError
from core.datasets import evenly
from core.ground import xmp

MOST_PIXELS = 1024  # side of a film


def gif(x: np.ndarray, fps: float, metadata: Mapping[str, Any], scale: int = 8) -> bytes:
    """Packs images (T, C, H, W) as a GIF that repeats for ever; ``metadata`` are its comment.

    A GIF counts in hundredths of a second: the rate is rounded to 100, 50, 33, 25, 20 … frames per second.

    Raises:
        UserError: If the rate is not 1 to 50.
    """
    frames = [Image.fromarray(frame) for frame in _frames(x, fps, scale)]
    if x.shape[1] == 3:  # one palette for all frames, so that still parts do not flicker
        sheet = Image.fromarray(evenly(x, 16).transpose(0, 2, 3, 1).reshape(-1, x.shape[3], 3))
        palette = sheet.quantize(256, Image.Quantize.MEDIANCUT)
        frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    out = io.BytesIO()
    frames[0].save(
        out,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=round(100 / fps) * 10,
        loop=0,
        comment=json.dumps(dict(metadata)).encode(),
    )
    return _marked(out.getvalue(), metadata)


def webp(x: np.ndarray, fps: float, metadata: Mapping[str, Any], scale: int = 8) -> bytes:
    """Packs images (T, C, H, W) as a lossless WebP that repeats for ever; ``metadata`` are its description (EXIF).

    Raises:
        UserError: If the rate is not 1 to 50.
    """
    frames = [Image.fromarray(frame).convert("RGB") for frame in _frames(x, fps, scale)]
    exif = Image.Exif()
    exif[0x010E] = json.dumps(dict(metadata))  # ImageDescription
    # rounded to milliseconds by their ends, so that they add up to the length of the film
    ends = np.round(np.arange(len(frames) + 1) * 1000 / fps).astype(int)
    out = io.BytesIO()
    frames[0].save(
        out,
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=np.diff(ends).tolist(),
        loop=0,
        lossless=True,
        exif=exif,
    )
    return _marked(out.getvalue(), metadata)


def mp4_ready() -> bool:
    """Says whether films can be encoded as MP4 here: whether this computer has ffmpeg."""
    return shutil.which("ffmpeg") is not None


def encoder() -> str:
    """Finds the program that encodes an MP4.

    Raises:
        UserError: If this computer has none.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise UserError(
            "An MP4 needs the program ffmpeg, which this computer does not have. "
            "Install it (Debian and Ubuntu: apt-get install ffmpeg), or take the GIF or WebP."
        )
    return program


def mp4(x: np.ndarray, fps: float, metadata: Mapping[str, Any], scale: int = 8) -> bytes:
    """Packs images (T, C, H, W) as an MP4 (H.264); ``metadata`` are its comment.

    Raises:
        UserError: If the rate is not 1 to 50, or ffmpeg is not there or fails.
    """
    program = encoder()
    frames = _frames(x, fps, scale)
    frames = frames[..., None].repeat(3, -1) if frames.ndim == 3 else frames
    rows, columns = frames.shape[1] % 2, frames.shape[2] % 2  # H.264 wants even sides
    frames = np.pad(frames, ((0, 0), (0, rows), (0, columns), (0, 0)), mode="edge")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "film.mp4"
        command = [
            program, "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24",
            "-s", f"{frames.shape[2]}x{frames.shape[1]}", "-r", f"{fps:g}", "-i", "-",
            "-an", "-c:v", "libx264", "-threads", "1", "-crf", "16", "-pix_fmt", "yuv420p",
            "-movflags", "+faststart", "-metadata", f"comment={json.dumps(dict(metadata))}", str(file),
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command,
                input=np.ascontiguousarray(frames).tobytes(),
                capture_output=True,
                timeout=120,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(
                f"The MP4 could not be made ({error}). Take the GIF or WebP instead."
            ) from None
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise UserError(
                f"The MP4 could not be made ({''.join(reason)}). Take the GIF or WebP instead."
            )
        return _marked(file.read_bytes(), metadata)


def _marked(film: bytes, metadata: Mapping[str, Any]) -> bytes:
    """Says in other programs' words that a model has made it."""
    return xmp.write(film, xmp.made_by(str(metadata.get("run", ""))))


def _frames(x: np.ndarray, fps: float, scale: int) -> np.ndarray:
    """Checks and enlarges the images, (T, H, W) for grey or (T, H, W, 3)."""
    if not 1 <= fps <= 50:
        raise UserError(f"A film must have 1 to 50 frames per second, got {fps:g}. Try 25.")
    if not len(x):
        raise UserError("A film needs at least 1 frame, got none. Pin two points first.")
    scale = max(1, min(scale, MOST_PIXELS // x.shape[2]))
    x = x.repeat(scale, 2).repeat(scale, 3).transpose(0, 2, 3, 1)
    return x[..., 0] if x.shape[3] == 1 else x
