"""A codec by itself, wherever it lies: in a model, in a checkpoint folder, in a file of EnCodec, on the Hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from audiogen_cli.errors import ModelError
from audiogen_cli.hub import catalog, checkpoint, download, encodec, foreign
from audiogen_cli.hub.known import KNOWN
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.entropy import EntropyLM

# The original files' models are on the Hub as well, in transformers' layout.
ON_HUB: Mapping[str, str] = {name: f"facebook/{name}" for name in encodec.PRESETS}


class NamedCodec(NamedTuple):
    """name: what a stream calls it, so that it is found again. place: its file, or the folder of its model."""

    name: str
    codec: Codec
    place: Path

    @property
    def is_published(self) -> bool:
        """Whether it is one of the two models of the `encodec` package."""
        return self.name in encodec.PRESETS


def load(name: str, device: str = "cpu", listener: download.Listener | None = None) -> NamedCodec:
    """The codec of a model, of a folder or of a `.th` file, for inference.

    Raises ModelError when there is none, CheckpointError when it is damaged.
    """
    bundled = catalog.bundled()
    if name in bundled:
        return _loaded(name, bundled[name].folder, device)
    place = Path(name)
    if place.exists():
        return _loaded(_published_name(place) or place.resolve().name, place, device)
    short = name.rpartition("/")[2]
    return _loaded(short if short in ON_HUB else name, _fetched(ON_HUB.get(name, name), listener), device)


def has_entropy_lm(codec: NamedCodec) -> bool:
    """Whether `load_entropy_lm` finds something to load."""
    return _entropy_lm_place(codec) is not None


def load_entropy_lm(codec: NamedCodec) -> EntropyLM:
    """Its entropy model: `encodec_lm_24khz*.th` beside a file of EnCodec, the folder `entropy` beside a folder `codec`.

    Raises ModelError when there is none, or it was trained on the codes of another codec.
    """
    place, beside = codec.place, _entropy_lm_place(codec)
    if beside is None:
        raise ModelError(f"there is no entropy model beside the codec in {place}; leave out --lm, or put one there.")
    lm: Any = encodec.load_entropy_lm(beside) if place.is_file() else checkpoint.load(beside, expect=("entropy-lm",))
    made_for = lm.config.codec_fingerprint
    instead = "put its own one there, or compress with --no-lm"
    if made_for and made_for != codec.codec.fingerprint():
        raise ModelError(f"the entropy model {beside} is of another codec than {codec.name}; {instead}.")
    if lm.config.num_codebooks < codec.codec.num_codebooks or lm.config.codebook_size != codec.codec.codebook_size:
        raise ModelError(f"the entropy model {beside} does not know all codes of {codec.name}; {instead}.")
    return lm.eval()


def can_be_found(name: str) -> bool:
    """Whether a stream's own word for its codec is enough: what any file may say is not downloaded, known names are."""
    return name in catalog.bundled() or name in KNOWN or name in ON_HUB


def _entropy_lm_place(codec: NamedCodec) -> Path | None:
    beside = encodec.entropy_lm_beside(codec.place) if codec.place.is_file() else codec.place / "entropy"
    return beside if beside is not None and beside.exists() else None


def _loaded(name: str, place: Path, device: str) -> NamedCodec:
    if foreign.has_codec(place):
        codec: Any = foreign.load_codec(place)
    elif place.is_dir():
        codec = checkpoint.load(place / "codec" if (place / "codec").is_dir() else place, expect=checkpoint.CODECS)
        place = place if (place / "codec").is_dir() else place.resolve().parent
    else:
        raise ModelError(f"{place} is no codec; name a model, a folder, or a .th file of EnCodec.")
    return NamedCodec(name, codec.to(device).eval(), place)


def _fetched(name: str, listener: download.Listener | None) -> Path:
    folder = download.fetch(*catalog.repository(name), listener)
    if foreign.has_codec(folder):
        return folder
    entry = catalog.find(name, listener)
    return entry.codec or entry.folder


def _published_name(place: Path) -> str | None:
    """The name of the original model that a file, or a folder converted from it, holds."""
    source = place.name
    if (place / "config.json").is_file() and not foreign.has_codec(place):
        source = Path(str(checkpoint.read_header(place)["source"].get("model", ""))).name
    match = re.match(r"(encodec_\w+?)(-[0-9a-f]+\.th)?$", source)
    return match[1] if match and match[1] in encodec.PRESETS else None
