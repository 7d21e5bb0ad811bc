"""Whether the parts of a model belong together: a language model speaks the codes of one codec alone."""

from __future__ import annotations

from pathlib import Path

from audiogen_cli.conditioners.text import T5Conditioner
from audiogen_cli.errors import ModelError
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.lm import LM


def check_codes(folder: Path, lm: LM, codec: Codec, text: T5Conditioner) -> None:
    """Raises ModelError when the language model was trained with other codes or other texts."""
    config, is_there = lm.config, codec.fingerprint()
    if config.codec_fingerprint != is_there:
        raise ModelError(
            f"{folder}: the language model speaks the codes of codec {config.codec_fingerprint or 'unknown'}, but the "
            f"codec there is {is_there}; put the codec beside it that it was trained with."
        )
    if config.num_codebooks > codec.num_codebooks or config.codebook_size != codec.codebook_size:
        raise ModelError(f"{folder}: the language model has more codes than its codec; fetch the model again.")
    if abs(config.frame_rate - codec.frame_rate) > 1e-3:
        raise ModelError(
            f"{folder}: the language model makes {config.frame_rate:g} frames a second, its codec "
            f"{codec.frame_rate:g}; fetch the model again."
        )
    if config.conditioning != "none" and config.condition_dim != text.dim:
        raise ModelError(
            f"{folder}: the language model wants text vectors of width {config.condition_dim}, its text encoder "
            f"makes {text.dim}; put the encoder there that it was trained with."
        )


def check_outline(folder: Path, lm: LM, outline: Codec | None) -> None:
    """Raises ModelError when the language model fills in another outline than the one that is planned, or none."""
    config = lm.config
    if not config.outline_codebooks and outline is None:
        return
    if outline is None:
        raise ModelError(f"{folder}: the language model fills in an outline, and no planner is there; fetch it again.")
    if not config.outline_codebooks:
        raise ModelError(f"{folder}: there is a planner, but the language model hears no outline; take it away.")
    if config.outline_fingerprint != outline.fingerprint():
        raise ModelError(
            f"{folder}: the language model fills in outline {config.outline_fingerprint}, but the one there is "
            f"{outline.fingerprint()}; put the outline beside it that it was trained with."
        )
