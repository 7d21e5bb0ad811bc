"""From a name or a folder to a model that is ready to make sound.

    folder/model.json                  what a person needs to know, and the sampling it sounds best with (ModelCard)
    folder/codec, folder/lm            checkpoints (hub/checkpoint.py)
    folder/text                        the text encoder (conditioners/text.py)

Bundled models lie in `weights/`: inside the installed package, or at the root of a clone. Finding and hashing a model
imports no torch; only `load` does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from audiogen_cli.config import from_dict, nearest
from audiogen_cli.errors import ConfigError, InputError, ModelError

if TYPE_CHECKING:
    import torch

    from audiogen_cli.conditioners.text import T5Conditioner
    from audiogen_cli.models.codec import Codec
    from audiogen_cli.models.decoding import Sampling
    from audiogen_cli.models.lm import LM

Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]

DEFAULT_MODEL = "sounds-small"
PARTS = ("codec", "lm", "text")
_PACKAGE = Path(__file__).resolve().parents[1]
SHELVES = (_PACKAGE / "weights", _PACKAGE.parent / "weights")


@dataclass(frozen=True)
class SamplingDefaults:
    """What models/decoding.Sampling holds, here without torch."""

    temperature: float = 1.0
    top_k: int = 250
    top_p: float = 0.0
    guidance: float = 3.0


@dataclass(frozen=True)
class ModelCard:
    """model.json. window_seconds: None is the language model's own; lanes: of models/decoding.decode."""

    name: str
    description: str = ""
    licence: str = "unknown"
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)
    window_seconds: float | None = None
    lanes: int = 1

    def __post_init__(self) -> None:
        if self.lanes < 1 or (self.window_seconds is not None and self.window_seconds <= 0):
            raise ValueError("lanes and window_seconds must be positive; correct them.")


@dataclass(frozen=True)
class Entry:
    """A model that is there, not loaded yet."""

    folder: Path
    card: ModelCard

    @cached_property
    def hash(self) -> str:
        """Twelve hex digits over everything that decides how the model sounds: the parts' files, lanes and window."""
        decisive = [self.card.lanes, self.card.window_seconds]
        digest = hashlib.sha256(json.dumps(decisive).encode())
        for path in sorted(path for part in PARTS for path in (self.folder / part).rglob("*") if path.is_file()):
            digest.update(path.relative_to(self.folder).as_posix().encode() + b"\0")
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:12]


@dataclass(frozen=True)
class Model:
    """A loaded model. `text` stays on the CPU in float32, `codec` in float32; `lm` has the dtype asked for."""

    name: str
    folder: Path
    hash: str
    card: ModelCard
    codec: Codec
    lm: LM
    text: T5Conditioner

    @property
    def licence(self) -> str:
        return self.card.licence

    @property
    def sample_rate(self) -> int:
        return self.codec.sample_rate

    @property
    def window_frames(self) -> int:
        """The longest stretch that the language model hears at once."""
        seconds = self.card.window_seconds or self.lm.config.window_seconds
        return max(1, round(seconds * self.codec.frame_rate))

    @property
    def sampling(self) -> Sampling:
        from audiogen_cli.models.decoding import Sampling

        return Sampling(**dataclasses.asdict(self.card.sampling))


def bundled() -> dict[str, Entry]:
    """The models that came with the program, by name; one that lacks a part is left out."""
    entries = {}
    for name, folder in _shelved().items():
        with contextlib.suppress(ModelError):
            entries[name] = _entry(folder)
    return entries


def find(name: str | os.PathLike[str]) -> Entry:
    """A bundled model by its name, or a folder by its path. Raises ModelError when there is neither."""
    known = _shelved()
    if str(name) in known:
        return _entry(known[str(name)])
    folder = Path(name)
    if folder.is_dir():
        return _entry(folder)
    if folder.exists():
        raise ModelError(f"{name} is a file, and a model is a folder; name the folder that holds {', '.join(PARTS)}.")
    hint = nearest(str(name), known) if known else ""
    raise ModelError(f"there is no model '{name}'{hint}; name one that `audiolm models list` shows, or a folder.")


def load(name: str | os.PathLike[str] = DEFAULT_MODEL, device: Device = "cpu", dtype: Dtype = "auto") -> Model:
    """Loads all parts and checks that they fit.

    Raises ModelError when they do not, CheckpointError when a part is damaged, InputError when there is no such device.
    """
    from audiogen_cli.conditioners.text import T5Conditioner
    from audiogen_cli.hub import checkpoint

    entry = find(name)
    place = resolve_device(device)
    kinds = tuple(kind for kind in checkpoint.KINDS if kind != "lm")
    codec = checkpoint.load(entry.folder / "codec", place, expect=kinds)
    lm = checkpoint.load(entry.folder / "lm", place, expect=("lm",))
    text = T5Conditioner.load(entry.folder / "text", "cpu")
    model = Model(entry.card.name, entry.folder, entry.hash, entry.card, codec, lm, text)  # type: ignore[arg-type]
    _check_fit(model)
    lm.to(torch_dtype(dtype, place))
    return model


def resolve_device(device: Device) -> str:
    """ "cpu", "cuda" or "mps"; "auto" is the fastest there is. Raises InputError when it is not there."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, available in there.items() if available)
    if not there[device]:
        raise InputError(f"torch finds no {device} device on this machine; use --device cpu, or auto.")
    return device


def resolve_dtype(dtype: Dtype, device: str) -> str:
    """ "auto" is bfloat16 on CUDA and float32 elsewhere."""
    if dtype == "auto":
        return "bfloat16" if device == "cuda" else "float32"
    return dtype


def torch_dtype(dtype: Dtype, device: str) -> torch.dtype:
    import torch

    resolved: torch.dtype = getattr(torch, resolve_dtype(dtype, device))
    return resolved


def _shelved() -> dict[str, Path]:
    """Folders with a model card on the shelves; what an earlier shelf has hides a later one's."""
    folders = [folder for shelf in reversed(SHELVES) if shelf.is_dir() for folder in sorted(shelf.iterdir())]
    return {folder.name: folder for folder in folders if (folder / "model.json").is_file()}


def _entry(folder: Path) -> Entry:
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise ModelError(f"{folder} is not a model: it has no folder {' and no '.join(missing)}; add it.")
    path = folder / "model.json"
    if not path.exists():
        return Entry(folder, ModelCard(folder.resolve().name))
    try:
        return Entry(folder, from_dict(ModelCard, json.loads(path.read_text(encoding="utf-8")), where=str(path)))
    except (OSError, ValueError, ConfigError) as error:
        raise ModelError(f"cannot use {path}: {error}") from error


def _check_fit(model: Model) -> None:
    config = model.lm.config
    made_for, is_there = config.codec_fingerprint, model.codec.fingerprint()
    if made_for != is_there:
        raise ModelError(
            f"{model.folder}: the language model speaks the codes of codec {made_for or 'unknown'}, but the codec "
            f"there is {is_there}; put the codec beside it that it was trained with."
        )
    if config.num_codebooks > model.codec.num_codebooks or config.codebook_size != model.codec.codebook_size:
        raise ModelError(f"{model.folder}: the language model has more codes than its codec; fetch the model again.")
    if config.conditioning != "none" and config.condition_dim != model.text.dim:
        raise ModelError(
            f"{model.folder}: the language model wants text vectors of width {config.condition_dim}, its text encoder "
            f"makes {model.text.dim}; put the encoder there that it was trained with."
        )
