from pathlib import Path
from typing import Any

import pytest
import torch

from audiogen_cli.errors import CheckpointError, ModelError
from audiogen_cli.hub import checkpoint, stages
from audiogen_cli.models.semantic import HubertWithKmeans
from audiogen_cli.models.stages import (
    CoarseAndFineTransformer,
    CoarseTransformer,
    FineTransformer,
    SemanticTransformer,
)

SIZES = {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8}


def parts(speech_model: Path, tiny_model: Path, **more: Any) -> stages.Stages:
    codec: Any = checkpoint.load(tiny_model / "codec")
    levels = {"codebook_size": 16, "num_coarse_quantizers": 2}
    return stages.Stages(
        HubertWithKmeans(speech_model, speech_model / "kmeans.safetensors"),
        codec,
        SemanticTransformer(num_semantic_tokens=12, **SIZES, **more),
        CoarseTransformer(num_semantic_tokens=12, **levels, **SIZES),
        FineTransformer(**levels, num_fine_quantizers=2, **SIZES),
    )


def test_what_is_saved_is_what_is_loaded(speech_model: Path, tiny_model: Path, tmp_path: Path) -> None:
    text = str(tiny_model / "text")
    whole = stages.checked(parts(speech_model, tiny_model, has_condition=True, t5_name=text))
    assert whole.text is not None and whole.text.dim == 16
    stages.save(tmp_path / "model", whole)
    loaded = stages.load(tmp_path / "model")
    for mine, theirs in zip(loaded.all, whole.all, strict=True):
        assert mine.config == theirs.config
        ids = [torch.zeros(1, 4).long() for _ in mine.config.blocks]
        torch.testing.assert_close(mine(ids)[-1], theirs.eval()(ids)[-1])
    wave = torch.randn(1, 4_000)
    assert torch.equal(loaded.tokenizer(wave), whole.tokenizer(wave))
    assert loaded.text is not None and loaded.text.fingerprint == whole.text.fingerprint


def test_one_stage_in_place_of_two_is_saved_and_loaded(speech_model: Path, tiny_model: Path, tmp_path: Path) -> None:
    three = parts(speech_model, tiny_model)
    levels = {"num_semantic_tokens": 12, "codebook_size": 16, "level_dim": 8}
    whole = three._replace(coarse=CoarseAndFineTransformer(num_quantizers=4, **levels, **SIZES), fine=None)
    stages.save(tmp_path / "model", stages.checked(whole))
    assert not (tmp_path / "model/fine").exists()
    loaded = stages.load(tmp_path / "model")
    assert loaded.fine is None and len(loaded.all) == 2
    ids = [torch.zeros(1, 4).long(), torch.zeros(1, 8).long()]
    torch.testing.assert_close(loaded.coarse(ids)[-1], whole.coarse.eval()(ids)[-1])
    too_many = CoarseAndFineTransformer(num_quantizers=5, **levels, **SIZES)
    for broken, why in (
        (whole._replace(fine=three.fine), "leave it out"),
        (three._replace(fine=None), "give a fine stage"),
        (whole._replace(coarse=too_many), "makes 5 codebooks and the codec has 4"),
    ):
        with pytest.raises(ModelError, match=why):
            stages.checked(broken)


def test_a_draft_belongs_to_the_stage_of_its_name(speech_model: Path, tiny_model: Path, tmp_path: Path) -> None:
    small = SemanticTransformer(num_semantic_tokens=12, **SIZES)
    whole = parts(speech_model, tiny_model)._replace(drafts=(small,))
    stages.save(tmp_path / "model", stages.checked(whole))
    [loaded] = stages.load(tmp_path / "model").drafts
    assert loaded.config == small.config and (tmp_path / "model/drafts/semantic").is_dir()
    with pytest.raises(ModelError, match="the draft has other ids than the semantic stage"):
        other = SemanticTransformer(num_semantic_tokens=12, unique_consecutive=False, **SIZES)
        stages.checked(whole._replace(drafts=(other,)))


def test_nothing_is_pickled(speech_model: Path, tiny_model: Path, tmp_path: Path) -> None:
    """[23: constructor arguments are pickled into checkpoints, and loading executes them]"""
    stages.save(tmp_path / "model", parts(speech_model, tiny_model))
    kinds = {path.suffix for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert kinds == {".json", ".safetensors"}


def test_ids_of_others_are_refused(speech_model: Path, tiny_model: Path) -> None:
    import dataclasses

    whole = parts(speech_model, tiny_model)
    for stage, change in (("semantic", {"semantic": "abc"}), ("fine", {"codec": "abc"})):
        broken = getattr(whole, stage)
        broken.config = dataclasses.replace(broken.config, **change)
        with pytest.raises(ModelError, match="trained on ids of abc"):
            stages.checked(whole)
        broken.config = dataclasses.replace(broken.config, semantic="", codec="")


def test_a_part_that_is_missing_is_named(speech_model: Path, tiny_model: Path, tmp_path: Path) -> None:
    stages.save(tmp_path / "model", parts(speech_model, tiny_model))
    (tmp_path / "model/coarse/config.json").unlink()
    with pytest.raises(CheckpointError, match="coarse is not a checkpoint"):
        stages.load(tmp_path / "model")


def test_the_bundled_text_encoder_is_the_default() -> None:
    from audiogen_cli.models.audiolm import TEXT_DIM

    assert stages.text_encoder("").dim == TEXT_DIM
