"""Captions to vectors by a frozen T5 encoder (1910.10683): what MusicGen (2306.05284) and AudioGen (2209.15352) hear.

    text = T5Conditioner.load("weights/sounds-small/text")
    text(["dog barking in rain", None])      # Condition([2, L, D], mask [2, L]); the row of None is all masked

A folder is one of two kinds, told apart by its config.json, each with a tokenizer.json:

    ours        {"format": 1, "kind": "t5-int8", "config": {...}, "source": {...}} + model.safetensors in 8 bits
    the Hub's   T5's own config.json + model.safetensors, whole or sharded; a decoder in it is left unread

In 8 bits a matrix W is stored as integers q with one scale s and one zero point z, and W = s (q - z).

A prompt is encoded by itself, never padded within a batch: its vectors are the same bits whatever stands beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.conditioners.t5 import T5Config, T5Encoder
from audiogen_cli.config import from_dict, to_dict
from audiogen_cli.errors import CheckpointError, ConfigError, InputError, OutputError
from audiogen_cli.ops.skeleton import skeleton

FORMAT = 1
KIND = "t5-int8"
MAX_TOKENS = 256
"""The longest prompt, end mark included: AudioLM's descendants train with captions of at most this length."""

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
EMBEDDING = "shared.weight"
TIED_EMBEDDING = "encoder.embed_tokens.weight"


@dataclass(frozen=True)
class Quantized:
    """A tensor in 8 bits: values uint8 or int8 of any shape, scale float32 [], zero_point [] of the values' type."""

    values: Tensor
    scale: Tensor
    zero_point: Tensor

    @staticmethod
    def of(tensor: Tensor) -> Quantized:
        """The nearest of 256 even steps from the tensor's least to its greatest value, zero among them."""
        low, high = tensor.amin().clamp(max=0), tensor.amax().clamp(min=0)
        scale = ((high - low) / 255).clamp(min=torch.finfo(torch.float32).tiny)
        zero_point = (-low / scale).round()
        values = ((tensor / scale).round() + zero_point).clamp(0, 255)
        return Quantized(values.to(torch.uint8), scale, zero_point.to(torch.uint8))

    def dequantize(self) -> Tensor:
        return (self.values.float() - self.zero_point.float()) * self.scale


class T5Conditioner:
    """A frozen T5 encoder with its tokenizer; `dim` is the width of its vectors.

    The vectors of the last `cache_size` prompts are kept, for a trainer that meets the same captions again and again.
    """

    def __init__(self, encoder: T5Encoder, tokenizer: Tokenizer, cache_size: int = 4096) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.cache_size = cache_size
        self.dim = encoder.config.d_model
        self._cache: OrderedDict[str, Tensor] = OrderedDict()

    @classmethod
    def load(cls, folder: str | os.PathLike[str], device: torch.device | str = "cpu") -> T5Conditioner:
        """Reads either kind of folder; computes in float32 whatever the file holds.

        Raises CheckpointError when the folder is neither kind, lacks a file, or its tensors do not fit its config.
        """
        folder = Path(folder)
        tokenizer = _load_tokenizer(folder / TOKENIZER)
        data = _read_json(folder / "config.json")
        if "kind" in data:
            config, files = _our_config(folder, data), [folder / WEIGHTS]
            tensors = _dequantized(_read_tensors(files))
        else:
            config, files = _hub_config(folder, data), _hub_files(folder)
            tensors = _encoder_only(_read_tensors(files))
        encoder = skeleton(lambda: T5Encoder(config))
        _fill(encoder, tensors, folder)
        return cls(encoder.to(device), tokenizer)

    @classmethod
    def of_tensors(
        cls, folder: Path, settings: Mapping[str, Any], tensors: Mapping[str, Tensor], tokenizer: Path
    ) -> T5Conditioner:
        """From T5's own settings (config.json) and tensors that lie within another model's `folder`."""
        config = _hub_config(folder, settings)
        encoder = skeleton(lambda: T5Encoder(config))
        _fill(encoder, _encoder_only({name: t for name, t in tensors.items() if _is_wanted(name)}), folder)
        return cls(encoder, _load_tokenizer(tokenizer))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the Hub's layout, the encoder alone, in float32. Raises OutputError when the disk refuses."""
        folder = Path(folder)
        settings = asdict(self.encoder.config)
        tensors = {name: t.detach().cpu().contiguous() for name, t in self.encoder.state_dict().items()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, folder / (WEIGHTS + ".partial"))
            (folder / (WEIGHTS + ".partial")).chmod(0o644)  # safetensors makes it private
            os.replace(folder / (WEIGHTS + ".partial"), folder / WEIGHTS)
            text = json.dumps({"model_type": "t5"} | settings, indent=2)
            (folder / "config.json").write_text(text + "\n", encoding="utf-8")
            self.tokenizer.save(str(folder / TOKENIZER))
        except OSError as error:
            reason = error.strerror or error
            raise OutputError(f"cannot write the text encoder {folder}: {reason}; choose another folder.") from error

    @cached_property
    def fingerprint(self) -> str:
        """12 hexadecimal digits over the encoder's float32 weights, however they were stored."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.encoder.state_dict().items()):
            digest.update(f"{name} {list(tensor.shape)} ".encode())
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()[:12]

    def __call__(self, prompts: Sequence[str | None]) -> Condition:
        """The prompts' vectors on the CPU in float32, padded with masked zeros; None or "" is a row of padding.

        Raises InputError for a prompt of more than 256 tokens.
        """
        rows = [self.embed_one(prompt or "") for prompt in prompts]
        length = max([1, *(row.shape[0] for row in rows)])
        embedding = torch.zeros(len(rows), length, self.dim)  # [B, L, D]
        mask = torch.zeros(len(rows), length, dtype=torch.bool)  # [B, L]
        for index, row in enumerate(rows):
            embedding[index, : row.shape[0]] = row
            mask[index, : row.shape[0]] = True
        return Condition(embedding, mask)

    def embed_one(self, prompt: str) -> Tensor:
        """[L, D] float32 on the CPU, the end mark's vector last; [0, D] for an empty prompt. Not to be written to."""
        if prompt in self._cache:
            self._cache.move_to_end(prompt)
            return self._cache[prompt]
        embedding = self._encode(prompt)
        if self.cache_size > 0:
            self._cache[prompt] = embedding
        if len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)
        return embedding

    def tokens(self, prompt: str) -> list[int]:
        """The prompt's numbers with the end mark, none for an empty prompt; raises InputError for more than 256."""
        if not prompt.strip():
            return []
        tokens: list[int] = self.tokenizer.encode(prompt).ids
        if len(tokens) > MAX_TOKENS:
            start = " ".join(prompt[:40].split())
            raise InputError(f"the prompt '{start}...' has {len(tokens)} tokens of at most {MAX_TOKENS}; shorten it.")
        return tokens

    @torch.no_grad()
    def _encode(self, prompt: str) -> Tensor:
        tokens = self.tokens(prompt)
        if not tokens:
            return torch.zeros(0, self.dim)
        device = self.encoder.shared.weight.device
        states: Tensor = self.encoder(torch.tensor([tokens], device=device))  # [1, L, D]
        return states[0].float().cpu()


def save_int8(
    folder: str | os.PathLike[str],
    config: T5Config,
    tensors: Mapping[str, Tensor | Quantized],
    tokenizer: str | os.PathLike[str],
    source: Mapping[str, Any] | None = None,
) -> None:
    """Writes the 8-bit layout; a float tensor given as it is stays float. `tokenizer` is the tokenizer.json to copy.

    Raises OutputError when the disk refuses.
    """
    folder = Path(folder)
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        parts = _parts(name, tensor) if isinstance(tensor, Quantized) else {name: tensor}
        stored.update({key: part.detach().cpu().contiguous() for key, part in parts.items()})
    header = {"format": FORMAT, "kind": KIND, "config": to_dict(config), "source": dict(source or {})}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tokenizer, folder / TOKENIZER)
        save_file(stored, folder / (WEIGHTS + ".partial"))
        os.replace(folder / (WEIGHTS + ".partial"), folder / WEIGHTS)
        (folder / "config.json").write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"cannot write the text encoder {folder}: {reason}; choose another folder.") from error


def _parts(name: str, tensor: Quantized) -> dict[str, Tensor]:
    return {name: tensor.values, f"{name}.scale": tensor.scale, f"{name}.zero_point": tensor.zero_point}


def _load_tokenizer(path: Path) -> Tokenizer:
    if not path.is_file():
        raise CheckpointError(f"{path.parent} has no {path.name}; fetch the text encoder again, with all of its files.")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises Exception itself
        raise CheckpointError(f"{path} is not a tokenizer: {error}; fetch the text encoder again.") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path.parent} is not a text encoder: it has no readable {path.name}.") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}; fetch the text encoder again.") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} must hold a table of settings; fetch the text encoder again.")
    return data


def _our_config(folder: Path, header: Mapping[str, Any]) -> T5Config:
    if set(header) != {"format", "kind", "config", "source"}:
        raise CheckpointError(
            f"{folder / 'config.json'} is not one of ours: it must hold format, kind, config and source."
        )
    if header["kind"] != KIND:
        raise CheckpointError(f"{folder} is of the kind '{header['kind']}', but a text encoder is needed here.")
    if header["format"] != FORMAT:
        raise CheckpointError(f"{folder} has format {header['format']}, this version reads {FORMAT}; update audiolm.")
    return _config(folder, header["config"])


def _hub_config(folder: Path, data: Mapping[str, Any]) -> T5Config:
    if data.get("model_type") != "t5":
        raise CheckpointError(f"{folder} holds a model of type '{data.get('model_type')}', but a T5 is needed here.")
    known = {field.name for field in fields(T5Config)}
    return _config(folder, {key: value for key, value in data.items() if key in known})


def _config(folder: Path, data: Mapping[str, Any]) -> T5Config:
    try:
        return from_dict(T5Config, data, where=str(folder / "config.json"))
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


def _hub_files(folder: Path) -> list[Path]:
    """model.safetensors, or the files that its index names."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        shards = _read_json(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise CheckpointError(f"{folder / INDEX} names no files; fetch the text encoder again.")
        return [folder / Path(str(name)).name for name in sorted(set(shards.values()))]
    if any(folder.glob("*.bin")):
        raise CheckpointError(f"{folder} holds only pickled weights, which can run code; fetch its {WEIGHTS} instead.")
    raise CheckpointError(f"{folder} has no {WEIGHTS}; fetch the text encoder again, with all of its files.")


def _read_tensors(paths: Sequence[Path]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                tensors.update({name: file.get_tensor(name) for name in file.keys() if _is_wanted(name)})  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"cannot read {path}: {error}; fetch the text encoder again.") from error
    return tensors


def _is_wanted(name: str) -> bool:
    """Not the decoder of a whole T5, which is half of the file."""
    return not name.startswith(("decoder.", "lm_head."))


def _encoder_only(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Old files hold the embedding under a second name, or only under that."""
    renamed = dict(tensors)
    tied = renamed.pop(TIED_EMBEDDING, None)
    if tied is not None:
        renamed.setdefault(EMBEDDING, tied)
    return renamed


def _dequantized(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor that has a scale and a zero point beside it becomes the float one that the three stand for."""
    floats = dict(tensors)
    for name, tensor in tensors.items():
        scale, zero_point = f"{name}.scale", f"{name}.zero_point"
        if scale in tensors and zero_point in tensors:
            floats[name] = Quantized(tensor, floats.pop(scale), floats.pop(zero_point)).dequantize()
    return floats


def _fill(encoder: T5Encoder, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Puts the tensors in, in float32; raises CheckpointError unless they are those, and of the shapes, it expects."""
    expected = encoder.state_dict()
    for name in sorted(set(tensors) ^ set(expected)):
        problem = "an unexpected" if name in tensors else "no"
        raise CheckpointError(f"{folder} has {problem} tensor '{name}'; its config.json belongs to another model.")
    for name, tensor in tensors.items():
        shape, wanted = list(tensor.shape), list(expected[name].shape)
        if shape != wanted:
            raise CheckpointError(f"{folder}: tensor '{name}' has shape {shape}, its config.json makes {wanted}.")
        if not tensor.is_floating_point():
            raise CheckpointError(f"{folder}: tensor '{name}' is in 8 bits without a scale; fetch the encoder again.")
    encoder.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
