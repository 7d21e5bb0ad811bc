"""Everything that made a sound, kept in the file's own metadata: enough to show it, and to make the same bytes again.

{"audiolm": {"kind": "generate", "prompt": "dog barking in rain", "seed": 1234, ...}}
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Literal

from audiogen_cli.config import from_dict, to_dict
from audiogen_cli.errors import ConfigError

Kind = Literal["generate", "continue", "speak"]
Format = Literal["wav", "flac", "ogg"]
BitDepth = Literal["16", "24", "float"]
Normalization = Literal["peak", "loudness", "none"]

MAX_PROMPT = 1_000  # characters
MIN_SECONDS, MAX_SECONDS = 0.1, 600.0
MAX_SEED = 2**32 - 1
MAX_CANDIDATES = 64
MAX_STEPS = 1_000


@dataclass(frozen=True)
class Recipe:
    """prompt: "" is none. seconds: of new sound. extend_stride: the new seconds of a hop beyond the model's window,
    None is half of that. source, source_hash: the name and content of the recording that was continued, or whose voice
    speaks; transcript: what that says. tries: how often speech was tried at most; trouble: what is wrong with it.
    candidates: how many sounds this one is the best of. steps: of a flow, from noise to sound.
    layers: whether a text of several sounds was made sound by sound. melody, melody_hash: the path and content of the
    recording whose tune it follows."""

    kind: Kind
    prompt: str
    seed: int
    seconds: float
    guidance: float
    temperature: float
    top_k: int
    top_p: float
    normalize: Normalization
    fade: float
    format: Format
    bit_depth: BitDepth
    model: str
    model_hash: str
    device: str
    dtype: str
    version: str
    source: str | None = None
    source_hash: str | None = None
    extend_stride: float | None = None
    transcript: str | None = None
    tries: int | None = None
    trouble: str | None = None
    candidates: int = 1
    steps: int | None = None
    layers: bool = False
    melody: str | None = None
    melody_hash: str | None = None

    def __post_init__(self) -> None:
        check_prompt(self.prompt, empty=True)
        if not MIN_SECONDS <= self.seconds <= MAX_SECONDS:
            raise ValueError(f"seconds must lie between {MIN_SECONDS:g} and {MAX_SECONDS:g}, not {self.seconds:g}.")
        if not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"the seed must lie between 0 and {MAX_SEED}, not {self.seed}.")
        if not 1 <= self.candidates <= MAX_CANDIDATES:
            raise ValueError(f"the candidates must number between 1 and {MAX_CANDIDATES}, not {self.candidates}.")
        if self.steps is not None and not 1 <= self.steps <= MAX_STEPS:
            raise ValueError(f"the steps must number between 1 and {MAX_STEPS}, not {self.steps}.")
        if self.extend_stride is not None and not 0 < self.extend_stride <= MAX_SECONDS:
            raise ValueError(f"the stride must lie above 0 and up to {MAX_SECONDS:g} s, not {self.extend_stride:g}.")
        if not all(math.isfinite(value) for value in (self.guidance, self.temperature, self.top_p, self.fade)):
            raise ValueError("guidance, temperature, top_p and fade must be finite numbers.")
        if self.format == "flac" and self.bit_depth == "float":
            raise ValueError("FLAC holds whole numbers only; use --bit-depth 24, or --format wav for float.")


def check_prompt(prompt: str, empty: bool = False) -> None:
    """Raises ValueError for a prompt that no model can use; `empty` allows one that says nothing."""
    if not prompt.strip() and not empty:
        raise ValueError('the prompt is empty; say what to hear, for example "dog barking in rain".')
    if len(prompt) > MAX_PROMPT:
        raise ValueError(f"the prompt has {len(prompt)} characters; shorten it to {MAX_PROMPT} at most.")
    if any(ord(character) < 32 and not character.isspace() for character in prompt):
        raise ValueError("the prompt holds control characters; give plain text.")


def to_comment(recipe: Recipe) -> str:
    """One line of JSON for the file's metadata."""
    return json.dumps({"audiolm": to_dict(recipe)}, ensure_ascii=False)


def from_comment(comment: str) -> Recipe | None:
    """The recipe in a file's comment; None when there is none of ours, or one of a version that differs too much."""
    try:
        return from_dict(Recipe, json.loads(comment)["audiolm"], where="recipe")
    except (ValueError, KeyError, TypeError, ConfigError):
        return None
