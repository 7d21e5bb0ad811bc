"""The original EnCodec files (2210.13438): plain state dicts whose names end in the start of their sha256.

    encodec_24khz-d7cc33bc.th       encodec_48khz-7e698e3e.th         codecs
    encodec_lm_24khz-1608e3c0.th    encodec_lm_48khz-7add9fc3.th      their entropy models

A file says nothing about itself but its tensors, so its name picks the preset.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from audiogen_cli.errors import CheckpointError
from audiogen_cli.hub.audiocraft import CODEC_TABLE
from audiogen_cli.hub.tables import Pickled, Table, fill
from audiogen_cli.models.encodec import ENCODEC_24KHZ, ENCODEC_48KHZ, Encodec, EncodecConfig
from audiogen_cli.models.entropy import ENCODEC_LM_24KHZ, ENCODEC_LM_48KHZ, EntropyLM, EntropyLMConfig
from audiogen_cli.ops.skeleton import skeleton

PRESETS: dict[str, EncodecConfig] = {"encodec_24khz": ENCODEC_24KHZ, "encodec_48khz": ENCODEC_48KHZ}
LM_PRESETS: dict[str, EntropyLMConfig] = {"encodec_lm_24khz": ENCODEC_LM_24KHZ, "encodec_lm_48khz": ENCODEC_LM_48KHZ}
LM_TABLE: Table = ((r"^linears\.", "heads."), (r"^transformer\.", ""))
_NAME = re.compile(r"(?P<preset>encodec_\w+?)-(?P<digest>[0-9a-f]{8,64})\.th")


def load_codec(path: Path, config: EncodecConfig | None = None) -> Encodec:
    """The codec in float32, its weight norm folded; `config` None is the preset that the name says.

    Raises CheckpointError when the name is not theirs, or the file's sha256 does not begin as its name ends.
    """
    config = config or PRESETS[_preset(path, PRESETS)]
    check_digest(path)
    codec = skeleton(lambda: Encodec(config))
    return fill(codec, Pickled(path), CODEC_TABLE, torch.float32).fold_weight_norm()


def is_entropy_lm(path: Path) -> bool:
    """By the name of the file."""
    match = _NAME.fullmatch(path.name)
    return match is not None and match["preset"] in LM_PRESETS


def load_entropy_lm(path: Path, config: EntropyLMConfig | None = None) -> EntropyLM:
    """The entropy model in float32, otherwise as `load_codec`."""
    config = config or LM_PRESETS[_preset(path, LM_PRESETS)]
    check_digest(path)
    lm = skeleton(lambda: EntropyLM(config))
    return fill(lm, Pickled(path), LM_TABLE, torch.float32)


def entropy_lm_beside(codec: Path) -> Path | None:
    """The file of the entropy model in the folder of a codec's file; None when there is none, or it is no such file.

    Raises CheckpointError when there are several.
    """
    match = _NAME.fullmatch(codec.name)
    if match is None or match["preset"] not in PRESETS:
        return None
    preset = match["preset"].replace("encodec_", "encodec_lm_")
    found = [path for path in sorted(codec.parent.glob(f"{preset}-*.th")) if _NAME.fullmatch(path.name)]
    if len(found) > 1:
        raise CheckpointError(f"{codec.parent} holds several entropy models: {found[0].name} and others; keep one.")
    return found[0] if found else None


def _preset(path: Path, presets: Mapping[str, object]) -> str:
    match = _NAME.fullmatch(path.name)
    if match is None or match["preset"] not in presets:
        example = f"{next(iter(presets))}-0123abcd.th"
        raise CheckpointError(f"{path} is not named as the original files are ({example}); give it its name back.")
    return match["preset"]


def check_digest(path: Path) -> None:
    """Raises CheckpointError unless the file's sha256 begins as its name ends."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise CheckpointError(f"{path} does not end in the start of its sha256; give it its name back.")
    wanted = match["digest"]
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}; check the path.") from error
    if not found.startswith(wanted):
        raise CheckpointError(
            f"{path} is damaged: its sha256 begins with {found[: len(wanted)]}, not {wanted}; download it again."
        )
