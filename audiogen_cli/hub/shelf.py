"""Where the weights lie that come with the program: inside the installed package, or at the root of a clone."""

from __future__ import annotations

import json
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


def borrowed(codec: Path) -> list[Path]:
    """What the codec in a folder sounds through besides its own weights: a codec of mel spectrograms without a vocoder
    borrows the one that comes with the program."""
    try:
        header = json.loads((codec / "config.json").read_text(encoding="utf-8"))
        borrows = header["kind"] == "mel" and header["config"].get("vocoder") is None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []  # loading says what is wrong with it
    return [on_shelf(VOCODER)] if borrows else []
