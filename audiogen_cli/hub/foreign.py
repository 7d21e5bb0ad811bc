"""Folders of other programs as our models: which layout it is, what it says about itself, its three parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch

from audiogen_cli.conditioners.text import T5Conditioner
from audiogen_cli.errors import CheckpointError
from audiogen_cli.hub import audiocraft, encodec, transformers
from audiogen_cli.hub.known import Facts
from audiogen_cli.models.encodec import Encodec, StereoEncodec
from audiogen_cli.models.entropy import EntropyLM
from audiogen_cli.ops.skeleton import skeleton

if TYPE_CHECKING:
    from audiogen_cli.models.codec import Codec
    from audiogen_cli.models.flow import Flow
    from audiogen_cli.models.lm import LM

Layout = Literal["audiocraft", "transformers"]


class Parts(NamedTuple):
    codec: Codec
    maker: LM | Flow
    text: T5Conditioner


def recognise(folder: Path) -> Layout | None:
    """By the files that are there; None for a folder of no layout that holds a language model."""
    if (folder / audiocraft.LM_FILE).is_file():
        return "audiocraft"
    if transformers.kind(folder) in (transformers.MUSICGEN, transformers.MELODY):
        return "transformers"
    return None


def facts(folder: Path, layout: Layout) -> Facts:
    """Raises CheckpointError when the folder is damaged, or of a model that is not computed here."""
    return audiocraft.facts(folder) if layout == "audiocraft" else transformers.facts(folder)


def load(
    folder: Path, layout: Layout, text: Path, codec: Path, dtype: torch.dtype | None, padding: audiocraft.Padding
) -> Parts:
    """`text` and `codec`: the folders of those parts, `folder` itself when they lie in it. On the CPU."""
    stereo = facts(folder, layout).stereo
    if layout == "audiocraft":
        embedded = codec == folder
        mono = audiocraft.load_codec(codec / audiocraft.CODEC_FILE) if embedded else transformers.load_codec(codec)
        lm = audiocraft.load_lm(folder / audiocraft.LM_FILE, mono, dtype, padding)
        hearing = T5Conditioner.load(text)
    else:
        mono = transformers.load_codec(codec)
        lm = transformers.load_lm(folder, dtype, padding)
        hearing = transformers.load_text(text)
    whole = _stereo(mono) if stereo else mono
    lm.config = replace(lm.config, codec_fingerprint=whole.fingerprint())
    return Parts(whole, lm, hearing)


def load_codec(place: Path) -> Encodec | None:
    """The codec alone: a `.th` file of EnCodec, or a folder of transformers or AudioCraft; None for anything else."""
    if place.suffix == ".th":
        return encodec.load_codec(place)
    if transformers.kind(place) is not None:
        return transformers.load_codec(place)
    if (place / audiocraft.CODEC_FILE).is_file():
        return audiocraft.load_codec(place / audiocraft.CODEC_FILE)
    return None


def load_alone(place: Path) -> Encodec | EntropyLM | None:
    """What `load_codec` knows, or a `.th` file of EnCodec's entropy model."""
    return encodec.load_entropy_lm(place) if encodec.is_entropy_lm(place) else load_codec(place)


def has_codec(place: Path) -> bool:
    """Whether `load_codec` knows what lies there."""
    return place.suffix == ".th" or transformers.kind(place) is not None or (place / audiocraft.CODEC_FILE).is_file()


def _stereo(codec: Encodec) -> StereoEncodec:
    """The codec on two channels, with its own weights."""
    if codec.config.channels != 1:
        raise CheckpointError("the language model is stereo by a mono codec, but its codec is stereo; fetch it again.")
    both = skeleton(lambda: StereoEncodec(codec.config))
    both.mono = codec
    return both.eval()
