"""Where the weights lie that come with the program: inside the installed package, or at the root of a clone."""

from __future__ import annotations

from pathlib import Path

from audiogen_cli.errors import ModelError

_PACKAGE = Path(__file__).resolve().parents[1]
SHELVES = (_PACKAGE / "weights", _PACKAGE.parent / "weights")
VOCODER = Path("hifigan/vocoder")


def on_shelf(part: Path) -> Path:
    """The folder of a part; ModelError when it is not there."""
    for shelf in SHELVES:
        if (shelf / part).is_dir():
            return shelf / part
    raise ModelError(f"{part} did not come with this installation; install audiolm again.")
