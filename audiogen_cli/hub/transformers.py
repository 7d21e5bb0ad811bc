"""transformers' layout of EnCodec, MusicGen and MusicGen Melody: config.json + safetensors, whole or in shards.

A MusicGen folder holds all three parts, told apart by the beginnings of their names:

    text_encoder.*   T5        audio_encoder.*   EnCodec        decoder.*, enc_to_dec_proj.*   the language model
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from audiogen_cli.conditioners.text import T5Conditioner
from audiogen_cli.config import from_dict
from audiogen_cli.errors import CheckpointError, ConfigError
from audiogen_cli.hub.known import Facts
from audiogen_cli.hub.tables import AGAIN, Safetensors, Source, Table, fill
from audiogen_cli.models.encodec import Encodec, EncodecConfig
from audiogen_cli.models.lm import LM, LMConfig
from audiogen_cli.ops.skeleton import skeleton

T = TypeVar("T")
MUSICGEN, MELODY, ENCODEC = "musicgen", "musicgen_melody", "encodec"
_DEFAULT_FRAMES = 1500  # 30 s: what every published MusicGen was trained on

CODEC_TABLE: Table = (
    (r"^(encoder|decoder)\.layers\.", r"\1."),
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
    (r"^quantizer\.layers\.(\d+)\.codebook\.", r"quantizer.stages.\1."),
)

LM_TABLE: Table = (
    (r"^(text_encoder|audio_encoder)\.", None),
    (r"\.embed_positions\.weights$", None),
    (r"^enc_to_dec_proj\.", "condition_proj."),
    (r"^audio_enc_to_dec_proj\.", "melody_proj."),
    (r"^decoder\.lm_heads\.", "heads."),
    (r"^decoder\.model\.decoder\.embed_tokens\.", "emb."),
    (r"^decoder\.model\.decoder\.layer_norm\.", "out_norm."),
    (r"^decoder\.model\.decoder\.layers\.", "transformer.layers."),
    (r"\.self_attn\.", ".self_attention."),
    (r"\.encoder_attn\.", ".cross_attention."),
    (r"\.self_attn_layer_norm\.", ".norm1."),
    (r"\.encoder_attn_layer_norm\.", ".norm_cross."),
    (r"\.final_layer_norm\.", ".norm2."),
    (r"\.fc([12])\.", r".linear\1."),
    (r"\.q_proj\.(weight|bias)$", r".in_proj.\1#0"),
    (r"\.k_proj\.(weight|bias)$", r".in_proj.\1#1"),
    (r"\.v_proj\.(weight|bias)$", r".in_proj.\1#2"),
)

_ENCODEC = {
    "channels": "audio_channels",
    "dimension": "hidden_size",
    "num_filters": "num_filters",
    "ratios": "upsampling_ratios",
    "num_residual_layers": "num_residual_layers",
    "kernel_size": "kernel_size",
    "last_kernel_size": "last_kernel_size",
    "residual_kernel_size": "residual_kernel_size",
    "dilation_base": "dilation_growth_rate",
    "compress": "compress",
    "lstm_layers": "num_lstm_layers",
    "causal": "use_causal_conv",
    "norm": "norm_type",
    "pad_mode": "pad_mode",
    "trim_right_ratio": "trim_right_ratio",
    "sample_rate": "sampling_rate",
    "codebook_size": "codebook_size",
    "normalize": "normalize",
    "segment_seconds": "chunk_length_s",
}


def kind(folder: Path) -> str | None:
    """The model type that config.json names, when it is one of those here."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        return None
    return found if found in (MUSICGEN, MELODY, ENCODEC) else None


def facts(folder: Path) -> Facts:
    settings = _json(folder / "config.json")
    generation = _json(folder / "generation_config.json") if (folder / "generation_config.json").is_file() else {}
    codec = codec_config(_table(settings, "audio_encoder", folder), folder)
    frames = generation.get("max_length") or _DEFAULT_FRAMES
    return Facts(
        sample_rate=codec.sample_rate,
        stereo=_table(settings, "decoder", folder).get("audio_channels", 1) == 2,
        window_seconds=float(frames) * codec.hop_length / codec.sample_rate,
        guidance=float(generation.get("guidance_scale") or 3.0),
    )


def load_codec(folder: Path) -> Encodec:
    """An EnCodec folder, or the codec in a MusicGen folder, in float32, its weight norm folded."""
    settings = _json(folder / "config.json")
    within = settings.get("model_type") != ENCODEC
    config = codec_config(_table(settings, "audio_encoder", folder) if within else settings, folder)
    source = Safetensors(folder, "audio_encoder." if within else "")
    return fill(skeleton(lambda: Encodec(config)), source, CODEC_TABLE, torch.float32).fold_weight_norm()


def load_lm(folder: Path, dtype: torch.dtype | None, padding: str = "audiocraft") -> LM:
    settings = _json(folder / "config.json")
    config = lm_config(settings, folder, padding)
    source: Source = Safetensors(folder)
    if not any(name.startswith("enc_to_dec_proj.") for name in source.shapes()):
        source = _WithIdentity(source, config)
    return fill(skeleton(lambda: LM(config)), source, LM_TABLE, dtype)


def load_text(folder: Path) -> T5Conditioner:
    """The text encoder in a MusicGen folder, in float32."""
    settings = _table(_json(folder / "config.json"), "text_encoder", folder)
    source = Safetensors(folder, "text_encoder.")
    names = sorted(source.shapes())
    tensors = dict(zip(names, source.read(names), strict=True))
    return T5Conditioner.of_tensors(folder, settings, tensors, folder / "tokenizer.json")


def codec_config(settings: Mapping[str, Any], folder: Path) -> EncodecConfig:
    """transformers' EncodecConfig as ours; what its file leaves out has its class's default."""
    full = _with_defaults("EncodecConfig", settings)
    data: dict[str, Any] = {ours: full[theirs] for ours, theirs in _ENCODEC.items()}
    rate = full["sampling_rate"] / _product(full["upsampling_ratios"])
    bits = max(1, (full["codebook_size"] - 1).bit_length())
    widest = full["target_bandwidths"][-1]
    data |= {
        "true_skip": not full["use_conv_shortcut"],
        "overlap": full["overlap"] or 0.0,
        "num_codebooks": int(1000 * widest // (-(-rate // 1) * bits)),
    }
    return _built(EncodecConfig, data, folder)


def lm_config(settings: Mapping[str, Any], folder: Path, padding: str = "audiocraft") -> LMConfig:
    """The decoder's settings as ours. Raises CheckpointError for a decoder that is not computed here."""
    melody = settings.get("model_type") == MELODY
    decoder = _with_defaults("MusicgenDecoderConfig", _table(settings, "decoder", folder))
    codec = codec_config(_table(settings, "audio_encoder", folder), folder)
    if decoder["activation_function"] != "gelu" or decoder.get("scale_embedding"):
        raise CheckpointError(f"{folder}: its decoder has another activation or scale than MusicGen's; use another.")
    count, channels = decoder["num_codebooks"], decoder["audio_channels"]
    data: dict[str, Any] = {
        "num_codebooks": count,
        "codebook_size": decoder["vocab_size"],
        "dim": decoder["hidden_size"],
        "num_layers": decoder["num_hidden_layers"],
        "num_heads": decoder["num_attention_heads"],
        "hidden_scale": decoder["ffn_dim"] // decoder["hidden_size"],
        "delays": [index // channels for index in range(count)],
        "conditioning": "prefix" if melody else "cross",
        "condition_dim": _table(settings, "text_encoder", folder).get("d_model", 512),
        "padding": "audiocraft" if melody else padding,
        "window_seconds": facts(folder).window_seconds,
        "frame_rate": codec.sample_rate / codec.hop_length,
    }
    if melody:  # how much a frame looks at is not said: 2^14 samples in every published one
        data |= {"melody_dim": settings.get("num_chroma", 12), "melody_frames": settings.get("chroma_length", 235)}
    return _built(LMConfig, data, folder)


class _WithIdentity:
    """A text encoder as wide as the decoder has no projection in the file; it stands for itself."""

    def __init__(self, source: Source, config: LMConfig) -> None:
        self.where = source.where
        self._source = source
        eye, bias = torch.eye(config.dim), torch.zeros(config.dim)
        self._extra = {"enc_to_dec_proj.weight": eye, "enc_to_dec_proj.bias": bias}

    def shapes(self) -> dict[str, list[int]]:
        return self._source.shapes() | {name: list(tensor.shape) for name, tensor in self._extra.items()}

    def read(self, names: Sequence[str]) -> list[Tensor]:
        found = iter(self._source.read([name for name in names if name not in self._extra]))
        return [self._extra[name] if name in self._extra else next(found) for name in names]


def _with_defaults(config_class: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A file holds only what differs from the defaults of transformers' class, in some of its versions."""
    import transformers

    known: dict[str, Any] = getattr(transformers, config_class)().to_dict()
    return known | dict(settings)


def _product(numbers: Sequence[int]) -> int:
    result = 1
    for number in numbers:
        result *= number
    return result


def _table(settings: Mapping[str, Any], name: str, folder: Path) -> dict[str, Any]:
    found = settings.get(name)
    if not isinstance(found, dict):
        raise CheckpointError(f"{folder / 'config.json'} says nothing about its '{name}'; {AGAIN}.")
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}; {AGAIN}.") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} must hold a table of settings; {AGAIN}.")
    return data


def _built(cls: type[T], data: Mapping[str, Any], folder: Path) -> T:
    try:
        return from_dict(cls, data, where=str(folder / "config.json"))
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
