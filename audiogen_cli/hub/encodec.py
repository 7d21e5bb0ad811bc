"""The original EnCodec files (2210.13438): plain state dicts whose names end in the start of their sha256.

    encodec_24khz-d7cc33bc.th    encodec_48khz-7e698e3e.th

A file says nothing about itself but its tensors, so its name picks the preset.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import torch

from audiogen_cli.errors import CheckpointError
from audiogen_cli.hub.audiocraft import CODEC_TABLE
from audiogen_cli.hub.tables import Pickled, fill
from audiogen_cli.models.encodec import ENCODEC_24KHZ, ENCODEC_48KHZ, Encodec, EncodecConfig
from audiogen_cli.ops.skeleton import skeleton

PRESETS: dict[str, EncodecConfig] = {"encodec_24khz": ENCODEC_24KHZ, "encodec_48khz": ENCODEC_48KHZ}
_NAME = re.compile(r"(?P<preset>encodec_\w+?)-(?P<digest>[0-9a-f]{8,64})\.th")


def load_codec(path: Path, config: EncodecConfig | None = None) -> Encodec:
    """The codec in float32, its weight norm folded; `config` None is the preset that the name says.

    Raises CheckpointError when the name is not theirs, or the file's sha256 does not begin as its name ends.
    """
    match = _NAME.fullmatch(path.name)
    if match is None or (config is None and match["preset"] not in PRESETS):
        raise CheckpointError(
            f"{path} is not named as the original files are (encodec_24khz-d7cc33bc.th); give it its name back."
        )
    check_digest(path, match["digest"])
    codec = skeleton(lambda: Encodec(config or PRESETS[match["preset"]]))
    return fill(codec, Pickled(path), CODEC_TABLE, torch.float32).fold_weight_norm()


def check_digest(path: Path, wanted: str) -> None:
    """Raises CheckpointError unless the file's sha256 begins with `wanted`."""
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}; check the path.") from error
    if not found.startswith(wanted):
        raise CheckpointError(
            f"{path} is damaged: its sha256 begins with {found[: len(wanted)]}, not {wanted}; download it again."
        )
