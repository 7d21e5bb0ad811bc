"""The published models that have a short name, and the facts that a person chooses by. Imports nothing heavy.

Parameters and download sizes are not typed from memory: tests/hub/test_known.py computes them from the shapes.
"""

from __future__ import annotations

from dataclasses import dataclass

AUDIOCRAFT_LICENCE = "CC-BY-NC-4.0"


@dataclass(frozen=True)
class Known:
    """parameters: of the language model. download_gb: of all parts, text encoder and codec included."""

    name: str
    repo: str
    makes: str
    sample_rate: int
    channels: int
    parameters: str
    download_gb: float
    licence: str = AUDIOCRAFT_LICENCE
    gated: bool = False


@dataclass(frozen=True)
class Facts:
    """What a foreign folder says about itself. text, codec: names of repositories; None: it is in the folder."""

    sample_rate: int
    stereo: bool
    window_seconds: float
    guidance: float
    text: str | None = None
    codec: str | None = None


def _music(name: str, makes: str, parameters: str, download_gb: float, channels: int = 1) -> Known:
    return Known(f"musicgen-{name}", f"facebook/musicgen-{name}", makes, 32_000, channels, parameters, download_gb)


_MELODY = "music from text and a melody"

KNOWN: dict[str, Known] = {
    known.name: known
    for known in (
        Known("audiogen-medium", "facebook/audiogen-medium", "sounds from text", 16_000, 1, "1.8 B", 6.9),
        _music("small", "music from text", "0.4 B", 2.0),
        _music("medium", "music from text", "1.8 B", 4.8),
        _music("large", "music from text", "3.3 B", 7.6),
        _music("melody", _MELODY, "1.4 B", 3.9),
        _music("melody-large", _MELODY, "2.5 B", 6.0),
        _music("stereo-small", "stereo music from text", "0.4 B", 2.0, 2),
        _music("stereo-medium", "stereo music from text", "1.9 B", 4.9, 2),
        _music("stereo-large", "stereo music from text", "3.3 B", 7.7, 2),
        _music("stereo-melody", f"stereo {_MELODY}", "1.4 B", 3.9, 2),
        _music("stereo-melody-large", f"stereo {_MELODY}", "2.5 B", 6.1, 2),
    )
}


def of_repo(repo: str) -> Known | None:
    return next((known for known in KNOWN.values() if known.repo == repo), None)
