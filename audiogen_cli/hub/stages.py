"""An AudioLM on disk: a folder with one part a subfolder, each of which says what it is.

folder/encoder                  the speech model in transformers' layout, and kmeans.safetensors; or a checkpoint of a
                                vq-wav2vec, which needs no centroids
folder/semantic, coarse, fine   checkpoints of the three stages (hub/checkpoint.py); no fine one where the coarse stage
                                makes all codebooks (models/depth.py)
folder/drafts/NAME              checkpoints of the small stages that propose ids to the large (models/speculative.py)
folder/codec                    a checkpoint
folder/text                     the text encoder, where a stage reads text
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from audiogen_cli.conditioners.text import T5Conditioner
from audiogen_cli.errors import ModelError
from audiogen_cli.hub import catalog, checkpoint, download
from audiogen_cli.models.audiolm import Stage
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.depth import DepthStage
from audiogen_cli.models.semantic import HubertWithKmeans, SemanticTokenizer
from audiogen_cli.models.speculative import check_draft
from audiogen_cli.models.vq_wav2vec import VQWav2Vec

CENTROIDS = "kmeans.safetensors"
STAGES = ("semantic", "coarse", "fine")


class Stages(NamedTuple):
    """The parts of an AudioLM, checked to fit. text: None where no stage reads any. drafts: of at most one a stage."""

    tokenizer: SemanticTokenizer
    codec: Codec
    semantic: Stage
    coarse: Stage
    fine: Stage | None = None
    text: T5Conditioner | None = None
    drafts: tuple[Stage, ...] = ()

    @property
    def all(self) -> tuple[Stage, ...]:
        return (self.semantic, self.coarse) if self.fine is None else (self.semantic, self.coarse, self.fine)


def load(folder: str | os.PathLike[str], device: str = "cpu") -> Stages:
    """Raises CheckpointError for a damaged part, ModelError when one is missing or they do not fit."""
    folder = Path(folder)
    tokenizer = _tokenizer(folder / "encoder", device)
    codec: Any = checkpoint.load(folder / "codec", device, expect=checkpoint.CODECS)
    semantic, coarse = (_stage(folder / name, device) for name in STAGES[:2])
    fine = None if makes_all(coarse) else _stage(folder / "fine", device)
    text = T5Conditioner.load(folder / "text") if (folder / "text").is_dir() else None
    drafts = (folder / "drafts" / name for name in STAGES)
    found = tuple(_stage(draft, device) for draft in drafts if draft.is_dir())
    return checked(Stages(tokenizer, codec, semantic, coarse, fine, text, found))


def _tokenizer(folder: Path, device: str) -> SemanticTokenizer:
    if (folder / CENTROIDS).is_file():
        return HubertWithKmeans(folder, folder / CENTROIDS).to(device)
    found: SemanticTokenizer = checkpoint.load(folder, device, expect=("vq-wav2vec",))  # type: ignore[assignment]
    return found


def _stage(folder: Path, device: str) -> Stage:
    stage: Stage = checkpoint.load(folder, device, expect=checkpoint.STAGES)  # type: ignore[assignment]
    return stage


def makes_all(coarse: Stage) -> bool:
    """Whether a coarse stage needs no fine one."""
    return isinstance(coarse, DepthStage)


def save(folder: str | os.PathLike[str], parts: Stages) -> None:
    """Writes all parts. Raises OutputError when the disk refuses."""
    folder = Path(folder)
    for name, stage in zip(STAGES, parts.all, strict=False):
        checkpoint.save(folder / name, stage)
    for draft in parts.drafts:
        checkpoint.save(folder / "drafts" / draft.config.stage, draft)
    checkpoint.save(folder / "codec", parts.codec)
    if isinstance(parts.tokenizer, VQWav2Vec):
        checkpoint.save(folder / "encoder", parts.tokenizer)
    else:
        parts.tokenizer.encoder.save(folder / "encoder")
        parts.tokenizer.kmeans.save(folder / "encoder" / CENTROIDS, force=True)
    if parts.text is not None:
        parts.text.save(folder / "text")


def checked(parts: Stages) -> Stages:
    """The parts with the text encoder that their stages want. Raises ModelError when they do not fit together."""
    if makes_all(parts.coarse) != (parts.fine is None):
        raise ModelError(
            "the coarse stage makes all codebooks, so that nothing is left to the fine one; leave it out."
            if parts.fine is not None
            else "the coarse stage makes the first codebooks only; give a fine stage for the others."
        )
    for name, stage in zip(STAGES, parts.all, strict=False):
        if stage.config.stage != name:
            raise ModelError(f"where the {name} stage belongs is a {stage.config.stage} one; change the two.")
    _check_ids(parts)
    for draft in parts.drafts:
        check_draft(parts.all[STAGES.index(draft.config.stage)], draft)
    if parts.semantic.config.unique_consecutive != parts.coarse.config.unique_consecutive:
        raise ModelError(
            "one of the semantic and coarse stages removes repeated ids and the other does not; retrain one."
        )
    names = {stage.config.text for stage in parts.all + parts.drafts if stage.config.conditioning != "none"}
    if not names:
        return parts._replace(text=None)
    if len(names) > 1:
        raise ModelError(f"the stages read text with different encoders ({', '.join(sorted(names))}); use one.")
    return parts if parts.text is not None else parts._replace(text=text_encoder(names.pop()))


def text_encoder(name: str) -> T5Conditioner:
    """The bundled encoder for "", else that of a folder or of a repository on the Hub. Raises ModelError."""
    if not name:
        return T5Conditioner.load(catalog.find(catalog.DEFAULT_MODEL).folder / "text")
    folder = Path(name)
    return T5Conditioner.load(folder if folder.is_dir() else download.fetch(name, None))


def _check_ids(parts: Stages) -> None:
    """Sizes and levels of every block, and the fingerprints that training left."""
    levels = parts.codec.num_codebooks
    for stage in parts.all + parts.drafts:
        config = stage.config
        for block in config.blocks:
            size = parts.tokenizer.codebook_size if block.axis == "semantic" else parts.codec.codebook_size
            if block.codebook_size != size:
                raise ModelError(
                    f"the {config.stage} stage has {block.codebook_size} {block.axis} ids and what makes them {size}; "
                    "use those it was trained with."
                )
        for wanted, there in (
            (config.semantic, parts.tokenizer.fingerprint()),
            (config.codec, parts.codec.fingerprint()),
        ):
            if wanted and wanted != there:
                raise ModelError(f"the {config.stage} stage was trained on ids of {wanted}, not of {there}; use those.")
    coarse = parts.coarse.config.target
    if coarse.num_levels > levels:
        raise ModelError(
            f"the coarse stage makes {coarse.num_levels} codebooks and the codec has {levels}; change one."
        )
    if parts.fine is None:
        return
    fine = parts.fine.config.target
    if fine.first_level != coarse.num_levels or fine.first_level + fine.num_levels > levels:
        raise ModelError(
            f"the coarse stage makes {coarse.num_levels} codebooks, the fine stage those from {fine.first_level} to "
            f"{fine.first_level + fine.num_levels}, and the codec has {levels}; build them to fit."
        )
