"""An independent listener that writes down what is said: Moonshine tiny (2410.15608), English, 27 million parameters.

    waveform [N] --encoder--> states [T, 288] --decoder, a token at a time--> text

The network is the pair of .ort files inside the PyPI package `moonshine-voice` 0.1.0. Only the files are used: the
package is never imported. They want `onnxruntime`, which only evaluation needs. Nothing of ours has been trained on it
or with it, unlike Whisper, whose encoder makes semantic tokens.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiogen_cli.data.segments import active_rms
from audiogen_cli.errors import ModelError

SAMPLE_RATE = 16_000
SILENT_DB = -60.0
"""Of the loudest stretch; below it nothing is said. A recogniser makes words of noise that it is made to listen to."""

_PACKAGE = "moonshine-voice"
_ENCODER, _DECODER, _TOKENS = _FILES = ("encoder_model.ort", "decoder_model_merged.ort", "tokenizer.bin")
_INSTALL = "pip install onnxruntime && pip install --no-deps moonshine-voice==0.1.0"
_FIRST, _LAST = 1, 2  # the tokens of start and end
_TOKENS_PER_SECOND = 6.5  # as its makers allow: what goes on longer is a loop
_SHORTEST = SAMPLE_RATE // 10
_LEVEL_DB = -26.0


def find() -> Path:
    """The folder of the files in the installed package; raises ModelError when it is not there."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files(_PACKAGE) or []:
            if file.name == _ENCODER and (path := Path(str(file.locate()))).is_file():
                return path.parent
    raise ModelError(
        f"the recogniser's {_ENCODER} is not installed; get it with `{_INSTALL}`, or name its folder with --recogniser."
    )


class Moonshine:
    """hears(waveform) -> what is said. The same waveform gives the same text on one machine."""

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        """folder: of the files; None looks for the installed ones. Raises ModelError when they cannot be used."""
        self.folder = Path(folder) if folder is not None else find()
        for name in _FILES:
            if not (self.folder / name).is_file():
                raise ModelError(f"{self.folder} has no {name}; get the recogniser with `{_INSTALL}`.")
        self._encoder, self._decoder = (_session(self.folder / name) for name in (_ENCODER, _DECODER))
        self._pieces = _pieces(self.folder / _TOKENS)
        inputs = self._decoder.get_inputs()
        self._past = {i.name: (i.shape[1], i.shape[3]) for i in inputs if i.name.startswith("past_")}
        self._present = [output.name for output in self._decoder.get_outputs()]

    @property
    def hash(self) -> str:
        """Twelve hex digits of the files."""
        digest = hashlib.sha256()
        for name in _FILES:
            digest.update((self.folder / name).read_bytes())
        return digest.hexdigest()[:12]

    def hears(self, waveform: Tensor) -> str:
        """waveform [N] at 16 kHz -> its words, "" for silence. Every sound is brought to one level."""
        samples = waveform.detach().float().cpu().numpy()
        rms = active_rms(samples, SAMPLE_RATE) if len(samples) else 0.0
        if len(samples) < _SHORTEST or rms < 10 ** (SILENT_DB / 20):
            return ""
        samples = (samples * (10 ** (_LEVEL_DB / 20) / rms)).astype(np.float32)
        heard = {"input_values": samples[None], "attention_mask": np.ones((1, len(samples)), np.int64)}
        states = self._encoder.run(None, heard)[0]
        return self._text(self._tokens(states, max(1, int(len(samples) / SAMPLE_RATE * _TOKENS_PER_SECOND))))

    def _tokens(self, states: np.ndarray, most: int) -> list[int]:
        """states [1, T, D] -> the likeliest token after the likeliest, to the end or `most`."""
        past = {name: np.zeros((1, heads, 0, width), np.float32) for name, (heads, width) in self._past.items()}
        mask, tokens = np.ones(states.shape[:2], np.int64), [_FIRST]
        for step in range(most):
            given = {"input_ids": np.array([[tokens[-1]]], np.int64), "encoder_hidden_states": states}
            given |= {"encoder_attention_mask": mask, "use_cache_branch": np.array([step > 0])}
            found = dict(zip(self._present, self._decoder.run(None, given | past), strict=True))
            token = int(found["logits"][0, -1].argmax())
            if token == _LAST:
                break
            tokens.append(token)
            past = _gone_on(past, found, step)
        return tokens[1:]

    def _text(self, tokens: list[int]) -> str:
        joined = b"".join(self._pieces[token] for token in tokens if token > _LAST)
        return joined.decode("utf-8", errors="replace").replace("▁", " ").strip()


def _gone_on(past: Mapping[str, np.ndarray], found: Mapping[str, Any], step: int) -> dict[str, np.ndarray]:
    """What the decoder remembers; of the encoder, what the first step made, for the others make nothing."""
    kept = dict[str, np.ndarray]()
    for name, before in past.items():
        kept[name] = before if ".encoder." in name and step else found[name.replace("past_key_values", "present")]
    return kept


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(f"the recogniser needs onnxruntime; get it with `{_INSTALL}`.") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for every way to fail, and no common one
        raise ModelError(f"{path} cannot be run ({_first_line(error)}); get it again with `{_INSTALL}`.") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip()


def _pieces(path: Path) -> list[bytes]:
    """The tokens in order: a length in one byte, or two where the first is 128 or more, and that many bytes."""
    data, place, found = path.read_bytes(), 0, list[bytes]()
    while place < len(data):
        length, place = data[place], place + 1
        if length >= 128:
            if place == len(data):
                break
            length, place = length - 128 + 128 * data[place], place + 1
        found.append(data[place : place + length])
        place += length
    if len(found) <= _LAST or place != len(data):
        raise ModelError(f"{path} is not the recogniser's list of tokens; get it again with `{_INSTALL}`.")
    return found
