import argparse
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from audiogen_cli.errors import CheckpointError
from audiogen_cli.hub import checkpoint, stages
from audiogen_cli.hub.fairseq import FairseqVQWav2Vec
from audiogen_cli.models.stages import CoarseAndFineTransformer, SemanticTransformer
from audiogen_cli.models.vq_wav2vec import VQWav2Vec, VQWav2VecConfig

LAYERS = ((8, 10, 5), (8, 8, 4), (8, 4, 2), (8, 4, 2), (8, 4, 2), (8, 1, 1))
SIZES = {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8}


def tiny(quantizer: str) -> VQWav2Vec:
    torch.manual_seed(0)
    depth = 2 if quantizer == "gumbel" else 1
    return VQWav2Vec(VQWav2VecConfig(quantizer, LAYERS, num_codes=4, quantizer_layers=depth))  # type: ignore[arg-type]


def written(folder: Path, quantizer: str, **more: Any) -> Path:
    """The model in a file with fairseq's names, and what else its files hold."""
    state = {
        "feature_aggregator.conv_layers.0.1.weight": torch.zeros(2),
        "wav2vec_predictions.project_to_steps.bias": 0,
    }
    state = {name: torch.zeros(2) for name in state}
    for name, tensor in tiny(quantizer).state_dict().items():
        kind, _, rest = name.partition(".")
        number, _, last = rest.partition(".")
        theirs = {
            "convolutions": f"feature_extractor.conv_layers.{number}.0.{last}",
            "norms": f"feature_extractor.conv_layers.{number}.2.{last}",
            "codebook": "vector_quantizer.embedding",
            "projection": f"vector_quantizer.projection.0.{rest}",
            "projection_norm": f"vector_quantizer.projection.1.{rest}",
            "hidden": f"vector_quantizer.weight_proj.{number}.0.{last}",
            "logits": f"vector_quantizer.weight_proj.1.{rest}",
        }
        state[theirs[kind]] = tensor
    if quantizer == "gumbel":
        state["vector_quantizer.vars"] = torch.zeros(1, 8, 4)
    options = argparse.Namespace(
        arch="wav2vec", conv_feature_layers=str(list(LAYERS)), vq_type=quantizer, vq_groups=2, vq_vars=4, vq_depth=2,
        combine_groups=False, activation="relu", skip_connections_feat=False, residual_scale=0.5, log_compression=True,
    )  # fmt: skip
    path = folder / f"{quantizer}.pt"
    torch.save({"args": options, "model": state, "optimizer_history": [{"num_updates": 1}]} | more, path)
    return path


@pytest.mark.parametrize("quantizer", ["kmeans", "gumbel"])
def test_fairseqs_file_gives_the_same_ids(tmp_path: Path, quantizer: str) -> None:
    found, wave = FairseqVQWav2Vec(checkpoint_path=written(tmp_path, quantizer)), torch.randn(1, 4_000) * 0.1
    assert torch.equal(found(wave), tiny(quantizer)(wave)) and found.fingerprint() == tiny(quantizer).fingerprint()
    checkpoint.save(tmp_path / "folder", found)
    assert torch.equal(FairseqVQWav2Vec(tmp_path / "folder")(wave), found(wave))


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch harm",)


def test_what_is_in_a_file_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="wants to run code"):
        FairseqVQWav2Vec(written(tmp_path, "kmeans", extra=Harm()))
    assert not (tmp_path / "harm").exists()
    with pytest.raises(CheckpointError, match="does not say how it was made"):
        FairseqVQWav2Vec(written(tmp_path, "kmeans", args=None))
    options = argparse.Namespace(vq_type="kmeans", conv_feature_layers="__import__('os').system('touch harm')")
    with pytest.raises(CheckpointError, match="no vq-wav2vec"):
        FairseqVQWav2Vec(written(tmp_path, "kmeans", args=options))
    assert not (tmp_path / "harm").exists()


def test_an_audiolm_takes_its_ids(tmp_path: Path, tiny_model: Path) -> None:
    from audiogen_cli.pipelines import audiolm

    tokenizer, codec = FairseqVQWav2Vec(written(tmp_path, "kmeans")), checkpoint.load(tiny_model / "codec")
    words = {"num_semantic_tokens": tokenizer.codebook_size}
    model = audiolm.AudioLM(
        tokenizer,
        codec,  # type: ignore[arg-type]
        SemanticTransformer(**words, **SIZES),
        CoarseAndFineTransformer(codebook_size=16, num_quantizers=4, level_dim=8, **words, **SIZES),
    )
    stages.save(tmp_path / "model", model.parts)
    loaded = audiolm.load(tmp_path / "model")
    assert loaded.parts.tokenizer.frame_rate == 100
    more: dict[str, Any] = {"prime_wave": torch.randn(1, 800) * 0.1, "seconds": 0.1}
    assert torch.equal(loaded(**more)[0], model(**more)[0])
