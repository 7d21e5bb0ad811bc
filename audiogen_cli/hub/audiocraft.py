"""AudioCraft's export of AudioGen (2209.15352) and MusicGen (2306.05284): two pickles beside each other.

    state_dict.bin               {"best_state": {name: tensor}, "xp.cfg": YAML, ..}   the language model
    compression_state_dict.bin   the same of the codec, or {"pretrained": name of a repository}

Every setting comes from the YAML, none from a name. The text encoder is not in the files, only its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import yaml

from audiogen_cli.config import from_dict
from audiogen_cli.errors import CheckpointError, ConfigError
from audiogen_cli.hub.known import Facts
from audiogen_cli.hub.tables import Pickled, Table, fill, unpickle
from audiogen_cli.models.encodec import Encodec, EncodecConfig
from audiogen_cli.models.lm import LM, LMConfig
from audiogen_cli.ops.skeleton import skeleton

T = TypeVar("T")
Padding = Literal["audiocraft", "masked"]

LM_FILE, CODEC_FILE = "state_dict.bin", "compression_state_dict.bin"

LM_TABLE: Table = (
    (r"\.self_wav\.chroma\.spec\.window$", None),
    (r"^condition_provider\.conditioners\.description\.output_proj\.", "condition_proj."),
    (r"^condition_provider\.conditioners\.self_wav\.output_proj\.", "melody_proj."),
    (r"^linears\.", "heads."),
    (r"\.in_proj_(weight|bias)$", r".in_proj.\1"),
    (r"\.self_attn\.", ".self_attention."),
)

CODEC_TABLE: Table = (
    (r"^(encoder|decoder)\.model\.", r"\1."),
    (r"\.(conv|convtr)\.\1\.", ".conv."),
    (r"\.(conv|convtr)\.norm\.", ".norm."),
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
    (r"^quantizer\.vq\.layers\.(\d+)\._codebook\.", r"quantizer.stages.\1."),
)

# What our network does, as AudioCraft would say it; a file that says otherwise is of a model that is not here.
_LM_MUST: dict[str, tuple[Any, ...]] = {
    "lm_model": ("transformer_lm",),
    "transformer_lm.activation": ("gelu",),
    "transformer_lm.norm_first": (True,),
    "transformer_lm.norm": ("layer_norm",),
    "transformer_lm.past_context": (None,),
    "transformer_lm.causal": (True,),
    "transformer_lm.layer_scale": (None,),
    "transformer_lm.positional_embedding": ("sin",),
    "transformer_lm.xpos": (False,),
    "transformer_lm.qk_layer_norm": (False,),
    "transformer_lm.qk_layer_norm_cross": (False,),
    "transformer_lm.kv_repeat": (1,),
    "fuser.cross_attention_pos_emb": (False,),
    "fuser.sum": ([],),
    "fuser.input_interpolate": ([],),
    "conditioners.description.model": ("t5",),
    "conditioners.description.t5.normalize_text": (False,),
    "interleave_stereo_codebooks.per_timestep": (False,),
}
_CODEC_MUST: dict[str, tuple[Any, ...]] = {
    "compression_model": ("encodec",),
    "encodec.autoencoder": ("seanet",),
    "encodec.quantizer": ("rvq",),
    "seanet.activation": ("ELU",),
    "seanet.disable_norm_outer_blocks": (0,),
    "seanet.decoder.final_activation": (None,),
    "seanet.encoder": ({},),
}


class Settings:
    """The YAML of `xp.cfg`, read by dotted names; `${other.name}` stands for another value."""

    def __init__(self, text: object, where: Path) -> None:
        self.where = where
        try:
            self.data = yaml.safe_load(text) if isinstance(text, str) else None
        except yaml.YAMLError as error:
            raise CheckpointError(f"{where}: its xp.cfg is not plain YAML; export it with AudioCraft's own.") from error
        if not isinstance(self.data, dict):
            raise CheckpointError(
                f"{where} has no configuration text 'xp.cfg'; it is no export of AudioCraft, name another file."
            )

    def has(self, name: str) -> bool:
        return self._find(name) is not _MISSING

    def get(self, name: str, default: Any = ...) -> Any:
        """The value, its references resolved; a missing one is `default`, or CheckpointError without one."""
        value = self._find(name)
        if value is _MISSING and default is ...:
            raise CheckpointError(f"{self.where}: its xp.cfg lacks '{name}'; it is of another kind of model.")
        return default if value is _MISSING else value

    def number(self, name: str, default: Any = ...) -> float:
        """YAML takes 1e-05 for a text; here it is a number."""
        value = self.get(name, default)
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{self.where}: '{name}' is {value!r} in its xp.cfg, not a number.") from error

    def check(self, must: Mapping[str, tuple[Any, ...]]) -> None:
        """Raises CheckpointError for the first setting that is there and not one of those allowed."""
        for name, allowed in must.items():
            value = self.get(name, allowed[0])
            if value not in allowed and not (value is None and allowed[0] in ([], {})):
                raise CheckpointError(
                    f"{self.where}: '{name}' is {value!r}, and only {allowed[0]!r} can be computed here; use another "
                    "model."
                )

    def _find(self, name: str, depth: int = 0) -> Any:
        node: Any = self.data
        for part in name.split("."):
            node = self._resolved(node, depth)
            if not isinstance(node, dict) or part not in node:
                return _MISSING
            node = node[part]
        return self._resolved(node, depth)

    def _resolved(self, value: Any, depth: int) -> Any:
        if isinstance(value, list):
            return [self._resolved(item, depth) for item in value]
        if not isinstance(value, str) or "${" not in value:
            return value
        if depth > 20:
            raise CheckpointError(f"{self.where}: '{value}' in its xp.cfg refers to itself; export it again.")
        whole = _REFERENCE.fullmatch(value)
        if whole:
            return self._target(whole[1], depth)
        return _REFERENCE.sub(lambda match: str(self._target(match[1], depth)), value)

    def _target(self, name: str, depth: int) -> Any:
        value = self._find(name.strip(), depth + 1)
        if value is _MISSING:
            raise CheckpointError(
                f"{self.where}: its xp.cfg refers to '{name}', which is not in it; export it again, resolved."
            )
        return value


_MISSING = object()
_REFERENCE = re.compile(r"\$\{([^${}]+)\}")


def facts(folder: Path) -> Facts:
    """Reads both files' configuration. Raises CheckpointError when one is missing, damaged or not AudioCraft's."""
    settings = _settings(folder / LM_FILE)
    return Facts(
        sample_rate=int(settings.number("sample_rate")),
        stereo=bool(settings.get("interleave_stereo_codebooks.use", False)),
        window_seconds=settings.number("dataset.segment_duration"),
        guidance=settings.number("classifier_free_guidance.inference_coef", 3.0),
        text=str(settings.get("conditioners.description.t5.name")),
        codec=_reference(unpickle(_existing(folder / CODEC_FILE)), folder / CODEC_FILE),
    )


def load_codec(path: Path) -> Encodec:
    """The codec in one file, in float32, its weight norm folded."""
    settings = _settings(path)
    config = codec_config(settings)
    return fill(
        skeleton(lambda: Encodec(config)), Pickled(path, "best_state"), CODEC_TABLE, torch.float32
    ).fold_weight_norm()


def load_lm(path: Path, codec: Encodec, dtype: torch.dtype | None, padding: Padding = "audiocraft") -> LM:
    """The language model in one file. Raises CheckpointError when `codec`, before `stereo`, cannot be its own."""
    settings = _settings(path)
    sample_rate = int(settings.number("sample_rate"))
    if codec.sample_rate != sample_rate:
        raise CheckpointError(
            f"{path} is made for a codec at {sample_rate} Hz, and the one beside it is at {codec.sample_rate} Hz; "
            "fetch both from one model."
        )
    config = replace(lm_config(settings, padding), frame_rate=codec.frame_rate)
    return fill(skeleton(lambda: LM(config)), Pickled(path, "best_state"), LM_TABLE, dtype)


def lm_config(settings: Settings, padding: Padding = "audiocraft") -> LMConfig:
    """Raises CheckpointError for a model that is not computed here."""
    settings.check(_LM_MUST)
    sizes = {name: settings.get(f"transformer_lm.{ours}") for name, ours in _LM_SIZES.items()}
    melody = _melody(settings)
    data = {
        **sizes,
        **melody,
        "bias_attention": bool(settings.get("transformer_lm.bias_attn", False)),
        "bias_feedforward": bool(settings.get("transformer_lm.bias_ff", False)),
        "bias_heads": bool(settings.get("transformer_lm.bias_proj", False)),
        "delays": _delays(settings),
        "conditioning": _conditioning(settings),
        "condition_dim": _text_width(settings.where),
        "padding": "audiocraft" if melody else padding,
        "window_seconds": settings.number("dataset.segment_duration"),
    }
    return _built(LMConfig, data, settings)


def codec_config(settings: Settings) -> EncodecConfig:
    """Raises CheckpointError for a codec that is not computed here."""
    settings.check(_CODEC_MUST)
    normalize = settings.get("encodec.renormalize", None)
    data = {name: settings.get(f"seanet.{theirs}") for name, theirs in _SEANET.items()}
    data |= {
        "elu_alpha": settings.number("seanet.activation_params.alpha", 1.0),
        "trim_right_ratio": settings.number("seanet.decoder.trim_right_ratio", 1.0),
        "sample_rate": settings.get("sample_rate"),
        "num_codebooks": settings.get("rvq.n_q"),
        "codebook_size": settings.get("rvq.bins"),
        "normalize": bool(settings.get("encodec.renorm", False) if normalize is None else normalize),
    }
    return _built(EncodecConfig, data, settings)


_LM_SIZES = {
    "num_codebooks": "n_q",
    "codebook_size": "card",
    "dim": "dim",
    "num_layers": "num_layers",
    "num_heads": "num_heads",
    "hidden_scale": "hidden_scale",
}
_SEANET = {
    "channels": "channels",
    "dimension": "dimension",
    "num_filters": "n_filters",
    "ratios": "ratios",
    "num_residual_layers": "n_residual_layers",
    "kernel_size": "kernel_size",
    "last_kernel_size": "last_kernel_size",
    "residual_kernel_size": "residual_kernel_size",
    "dilation_base": "dilation_base",
    "compress": "compress",
    "true_skip": "true_skip",
    "lstm_layers": "lstm",
    "causal": "causal",
    "norm": "norm",
    "pad_mode": "pad_mode",
}


def _settings(path: Path) -> Settings:
    return Settings(unpickle(_existing(path)).get("xp.cfg"), path)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise CheckpointError(f"{path.parent} has no {path.name}; fetch the model again, with all of its files.")
    return path


def _reference(package: Mapping[str, Any], path: Path) -> str | None:
    """`facebook/encodec_32khz`, with or without the prefix of training configurations."""
    if "pretrained" not in package:
        return None
    name = str(package["pretrained"]).removeprefix("//pretrained/")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise CheckpointError(f"{path} points to the codec '{name}', which is not supported; use a model on EnCodec.")
    return name


def _delays(settings: Settings) -> tuple[int, ...]:
    """One per codebook. The oldest files say only `q_modeling`, which meant 0, 1, 2, .."""
    count = int(settings.number("transformer_lm.n_q"))
    if not settings.has("codebooks_pattern"):
        modeling = settings.get("transformer_lm.q_modeling", "delay")
    else:
        modeling = settings.get("codebooks_pattern.modeling")
    if modeling not in ("delay", "parallel"):
        raise CheckpointError(f"{settings.where}: the code pattern '{modeling}' is not supported; use another model.")
    if modeling == "parallel":
        return (0,) * count
    for name in ("flatten_first", "empty_initial"):
        if settings.get(f"codebooks_pattern.delay.{name}", 0):
            raise CheckpointError(f"{settings.where}: '{name}' of its pattern is not supported; use another model.")
    delays = settings.get("codebooks_pattern.delay.delays", None) or range(count)
    return tuple(int(delay) for delay in delays)


def _conditioning(settings: Settings) -> str:
    """Where the text goes. A conditioner other than text and melody is an error that names it."""
    for name in settings.get("conditioners", {}) or {}:
        if name not in ("description", "self_wav", "args"):
            raise CheckpointError(f"{settings.where}: its condition '{name}' is not supported; use another model.")
    cross, prefix = settings.get("fuser.cross", []) or [], settings.get("fuser.prepend", []) or []
    if cross == ["description"] and not prefix:
        return "cross"
    if prefix in (["description"], ["self_wav", "description"]) and not cross:
        return "prefix"
    raise CheckpointError(f"{settings.where}: its fuser joins conditions in a way that is not supported here.")


def _melody(settings: Settings) -> dict[str, int]:
    """The chroma prefix: n_chroma bins, one frame a quarter of the 2^radix2_exp samples that it looks at."""
    if not settings.get("conditioners.self_wav", None):
        return {}
    settings.check(
        {"conditioners.self_wav.model": ("chroma_stem",), "conditioners.self_wav.chroma_stem.argmax": (True,)}
    )
    window = 2 ** int(settings.number("conditioners.self_wav.chroma_stem.radix2_exp"))
    samples = round(settings.number("dataset.segment_duration") * settings.number("sample_rate"))
    bins = int(settings.number("conditioners.self_wav.chroma_stem.n_chroma"))
    return {"melody_dim": bins, "melody_frames": 1 + samples // (window // 4), "melody_fft": window}


def _text_width(path: Path) -> int:
    """The one size that no setting names: how wide the text encoder's vectors are."""
    shape = Pickled(path, "best_state").shapes().get("condition_provider.conditioners.description.output_proj.weight")
    return shape[1] if shape else 768


def _built(cls: type[T], data: Mapping[str, Any], settings: Settings) -> T:
    try:
        return from_dict(cls, data, where="xp.cfg")
    except ConfigError as error:
        raise CheckpointError(f"{settings.where}: {error}") from error
