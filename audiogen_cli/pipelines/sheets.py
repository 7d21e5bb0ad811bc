"""Spectrogram sheets: for each prompt a picture of what its seeds gave beside recordings of it, and a page of all.

Every panel shows a whole sound, 0 Hz to half the sample rate on the mel scale, over the
80 dB below its own loudest point, at half the size of data/image.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from audiogen_cli.data import image
from audiogen_cli.data.files import output_error, replacing
from audiogen_cli.errors import OutputError
from audiogen_cli.metrics.tagger import SAMPLE_RATE

PAGE = "README.md"
_GAP, _WIDE_GAP = 4, 24


def check_folder(folder: Path, force: bool = False) -> None:
    """Raises OutputError when the sheets cannot be written there, or would mingle with what is there already."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"cannot write into {folder}: it is no folder; name another one.")
    if not folder.exists() and not folder.parent.is_dir():
        raise OutputError(f"cannot make {folder}: {folder.parent} does not exist; create it first.")
    if not force and folder.is_dir() and any(folder.iterdir()):
        raise OutputError(f"{folder} is not empty; choose another folder or overwrite with --force.")


def write_sheets(
    folder: Path,
    title: str,
    prompts: Sequence[str],
    generated: Sequence[Sequence[Tensor]],
    real: Sequence[Sequence[Tensor]],
    force: bool = False,
) -> None:
    """generated, real: for each prompt its sounds [N] at 16 kHz. Raises OutputError."""
    check_folder(folder, force)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    lines = [f"# {title}", "", "Left of the broad bar the seeds in order, right of it recordings.", ""]
    for number, (prompt, left, right) in enumerate(zip(prompts, generated, real, strict=True), start=1):
        name = f"{number:02d}-{slug(prompt)}.png"
        with replacing(folder / name, force) as file:
            file.write(image.encode_png(sheet(left, right)))
        lines += [f"**{prompt}**", "", f"![{prompt}]({name})", ""]
    with replacing(folder / PAGE, force) as file:
        file.write("\n".join(lines).encode())


def sheet(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Sounds [N] at 16 kHz -> levels [height, width] in 0 .. 1, a broad light bar between the two groups."""
    bars = [_bar(_GAP)] * (len(left) + len(right) - 1)
    if left and right:
        bars[len(left) - 1] = _bar(_WIDE_GAP)
    panels = [panel(waveform) for waveform in (*left, *right)]
    return torch.cat([piece for pair in zip(panels, bars, strict=False) for piece in pair] + panels[-1:], dim=1)


def panel(waveform: Tensor) -> Tensor:
    """waveform [N] -> levels [128, columns], 50 columns to a second."""
    return F.avg_pool2d(image.spectrogram(waveform[None], SAMPLE_RATE)[None], 2)[0]


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _bar(width: int) -> Tensor:
    return torch.ones(image.HEIGHT // 2, width)
