"""A checkpoint is a folder: config.json says what it is, model.safetensors holds the weights.

    config.json   {"format": 1, "kind": "spectral", "config": {...}, "source": {...}}

`kind` looks up a literal table, never an import path. Every key and shape must be the expected one. Weights may be
stored in 16 or 8 bits; they are computed with in float32 unless asked otherwise.

A codec of mel spectrograms may sound through the vocoder that comes with the program: then its folder does not hold
that again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from audiogen_cli.config import from_dict, nearest, to_dict
from audiogen_cli.errors import CheckpointError, OutputError
from audiogen_cli.hub.shelf import VOCODER, on_shelf
from audiogen_cli.hub.soundstream import SoundStream
from audiogen_cli.hub.tables import (
    SCALE,
    WEIGHTS,
    Beside,
    Safetensors,
    Scaled,
    Source,
    fill,
    only_for_training,
    scaled,
)
from audiogen_cli.models.audiolm import Stage, StageConfig
from audiogen_cli.models.clap import CLAP, CLAPConfig
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.depth import DepthConfig, DepthStage
from audiogen_cli.models.encodec import Encodec, EncodecConfig, StereoEncodec
from audiogen_cli.models.entropy import EntropyLM, EntropyLMConfig
from audiogen_cli.models.flow import Flow, FlowConfig
from audiogen_cli.models.hifigan import HiFiGAN, HiFiGANConfig
from audiogen_cli.models.judge import Judge, JudgeConfig
from audiogen_cli.models.lm import LM, LMConfig
from audiogen_cli.models.mel import MelCodec, MelConfig
from audiogen_cli.models.soundstream import SoundStreamConfig
from audiogen_cli.models.spectral import SpectralCodec, SpectralConfig
from audiogen_cli.models.valle import VallE, VallEConfig
from audiogen_cli.models.vq_wav2vec import VQWav2Vec, VQWav2VecConfig
from audiogen_cli.ops.skeleton import skeleton

FORMAT = 1
_BORROWED = "vocoder."

KINDS: dict[str, tuple[type[Any], type[nn.Module]]] = {
    "clap": (CLAPConfig, CLAP),
    "depth": (DepthConfig, DepthStage),
    "encodec": (EncodecConfig, Encodec),
    "encodec-stereo": (EncodecConfig, StereoEncodec),
    "entropy-lm": (EntropyLMConfig, EntropyLM),
    "flow": (FlowConfig, Flow),
    "hifigan": (HiFiGANConfig, HiFiGAN),
    "judge": (JudgeConfig, Judge),
    "lm": (LMConfig, LM),
    "mel": (MelConfig, MelCodec),
    "soundstream": (SoundStreamConfig, SoundStream),
    "spectral": (SpectralConfig, SpectralCodec),
    "stage": (StageConfig, Stage),
    "valle": (VallEConfig, VallE),
    "vq-wav2vec": (VQWav2VecConfig, VQWav2Vec),
}
STAGES = ("stage", "depth")
CODECS = tuple(kind for kind, (_, cls) in KINDS.items() if issubclass(cls, Codec))


def kind_of(module: nn.Module) -> str:
    """The name under which a module is stored: that of its class, or of the nearest class above it."""
    kinds = {cls: kind for kind, (_, cls) in KINDS.items()}
    return next(kinds[cls] for cls in type(module).__mro__ if cls in kinds)


def save(
    folder: str | os.PathLike[str],
    module: nn.Module,
    source: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Writes the folder; `dtype` converts floating-point weights: torch.int8 keeps matrices as 8-bit integers with a
    scale for each row, and the rest, buffers too, in 16 bits. Files are written beside and renamed.

    `source` is free-form provenance (data, steps, licence). Raises OutputError when the disk refuses.
    """
    folder = Path(folder)
    tensors: dict[str, Tensor] = {}
    weights = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    for name, tensor in module.state_dict().items():
        if not only_for_training(name) and not (_borrows(module) and name.startswith(_BORROWED)):
            kept = torch.float16 if dtype is torch.int8 and name not in weights else dtype
            tensors |= _stored(name, tensor, kept)
    header = {
        "format": FORMAT,
        "kind": kind_of(module),
        "config": to_dict(module.config),
        "source": dict(source or {}),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / "model.safetensors.partial")
        (folder / "model.safetensors.partial").chmod(0o644)  # safetensors makes it private
        os.replace(folder / "model.safetensors.partial", folder / "model.safetensors")
        (folder / "config.json.partial").write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")
        os.replace(folder / "config.json.partial", folder / "config.json")
    except OSError as error:
        raise OutputError(
            f"cannot write the checkpoint {folder}: {error.strerror or error}; choose another folder."
        ) from error


def load(
    folder: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    expect: tuple[str, ...] = (),
    dtype: torch.dtype | None = torch.float32,
) -> nn.Module:
    """The module in evaluation mode, in `dtype` (None: as stored), on `device`.

    Raises CheckpointError when the folder is not a checkpoint, is of a kind not in `expect`, or holds other keys or
    shapes than its configuration makes.
    """
    folder = Path(folder)
    header = read_header(folder)
    kind = header["kind"]
    if kind not in KINDS:
        raise CheckpointError(f"{folder} is of the unknown kind '{kind}'{nearest(kind, KINDS)}.")
    if expect and kind not in expect:
        raise CheckpointError(f"{folder} holds a model of kind '{kind}', but {' or '.join(expect)} is needed here.")
    config_class, module_class = KINDS[kind]
    config = from_dict(config_class, header["config"], where=str(folder / "config.json"))
    module = skeleton(lambda: module_class(config))
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(f"cannot read {folder / WEIGHTS}: it is not there; fetch or write the checkpoint again.")
    source: Source = Scaled(Safetensors(folder / WEIGHTS))
    if _borrows(module):
        module.vocoder = skeleton(lambda: HiFiGAN(_vocoder_config())).requires_grad_(False)
        source = Beside(source, Safetensors(on_shelf(VOCODER) / WEIGHTS), _BORROWED)
    return fill(module, source, (), dtype).to(device)


def with_vocoder(codec: MelCodec) -> MelCodec:
    """A codec that was just made, with the vocoder that comes with the program where it has none of its own."""
    if _borrows(codec):
        vocoder: Any = load(on_shelf(VOCODER), expect=("hifigan",))
        codec.vocoder = vocoder.requires_grad_(False)
    return codec


def _vocoder_config() -> HiFiGANConfig:
    folder = on_shelf(VOCODER)
    return from_dict(HiFiGANConfig, read_header(folder)["config"], where=str(folder / "config.json"))


def _borrows(module: nn.Module) -> bool:
    return isinstance(module, MelCodec) and module.config.vocoder is None


def read_header(folder: Path) -> dict[str, Any]:
    """config.json, checked: {"format", "kind", "config", "source"}."""
    path = folder / "config.json"
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{folder} is not a checkpoint folder: it has no readable config.json.") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}; fetch or write the checkpoint again.") from error
    if not isinstance(header, dict) or set(header) != {"format", "kind", "config", "source"}:
        raise CheckpointError(f"{path} is not one of ours: it must hold format, kind, config and source.")
    if header["format"] != FORMAT:
        raise CheckpointError(f"{path} has format {header['format']}, this version reads {FORMAT}; update audiolm.")
    return header


def _stored(name: str, tensor: Tensor, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """The tensors of the file that one of the module becomes."""
    tensor = tensor.detach().cpu()
    if dtype is None or not tensor.is_floating_point():
        return {name: tensor.contiguous()}
    if dtype is torch.int8 and tensor.dim() > 1:
        integers, scale = scaled(tensor)
        return {name: integers.contiguous(), name + SCALE: scale}
    return {name: tensor.to(torch.float16 if dtype is torch.int8 else dtype).contiguous()}
