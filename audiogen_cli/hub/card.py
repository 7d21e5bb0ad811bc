"""What model.json holds: what a person needs to know of a model, and how it sounds best. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class SamplingDefaults:
    """What models/decoding.Sampling holds, here without torch."""

    temperature: float = 1.0
    top_k: int = 250
    top_p: float = 0.0
    guidance: float = 3.0
    steps: int = 32


@dataclass(frozen=True)
class ModelCard:
    """model.json. window_seconds: None is the language model's own; lanes: of models/decoding.decode.

    domain: of an AudioLM, which decides the temperatures of its stages (pipelines/audiolm.py).
    candidates: how many sounds to draw for each that is kept, when nobody says; layers: whether a text of several
    sounds is made sound by sound (pipelines/layers.py), when nobody says.
    seconds: how much to make when nobody says; extend_stride: the new seconds of a hop of sound beyond the window, None
    is half of it.
    """

    name: str
    description: str = ""
    licence: str = "unknown"
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    window_seconds: float | None = None
    lanes: int = 1
    seconds: float = 5.0
    extend_stride: float | None = None
    domain: Literal["speech", "music"] = "speech"
    candidates: int = 1
    layers: bool = False

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError("candidates must be 1 or more; correct it.")
        if self.seconds <= 0 or (self.extend_stride is not None and self.extend_stride <= 0):
            raise ValueError("seconds and extend_stride must be positive; correct them.")
        if self.lanes < 1 or (self.window_seconds is not None and self.window_seconds <= 0):
            raise ValueError("lanes and window_seconds must be positive; correct them.")
