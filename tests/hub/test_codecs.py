"""A codec is found wherever it lies."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from audiogen_cli.errors import AudiolmError, CheckpointError, ModelError
from audiogen_cli.hub import catalog, checkpoint, codecs
from audiogen_cli.models.encodec import ENCODEC_24KHZ, Encodec
from audiogen_cli.models.entropy import EntropyLM, EntropyLMConfig

SMALL: dict[str, Any] = {"sample_rate": 600, "dimension": 6, "num_filters": 4, "ratios": (3, 2), "num_codebooks": 3}


def entropy_lm(fingerprint: str, codebooks: int = 4) -> EntropyLM:
    config = EntropyLMConfig(
        num_codebooks=codebooks, codebook_size=16, dim=16, num_layers=1, num_heads=2, past_context=9
    )
    return EntropyLM(dataclasses.replace(config, codec_fingerprint=fingerprint))


def test_a_models_codec_and_a_codecs_folder_are_the_same(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, alone = codecs.load(str(tiny_model)), codecs.load(str(tiny_model / "codec"))
    assert model.codec.fingerprint() == alone.codec.fingerprint()
    assert (model.name, alone.name) == ("tiny", "codec") and model.place == alone.place == tiny_model
    monkeypatch.setattr(catalog, "SHELVES", (tiny_model.parent,))
    assert codecs.load("tiny").codec.fingerprint() == model.codec.fingerprint()
    assert codecs.can_be_found("tiny") and not codecs.can_be_found("evil/codec")


def test_a_converted_published_codec_keeps_its_name(tmp_path: Path) -> None:
    codec = Encodec(dataclasses.replace(ENCODEC_24KHZ, **SMALL))
    for folder, source in (("a", "x/encodec_24khz-0123abcd.th"), ("b", "facebook/encodec_24khz"), ("c", "mine")):
        checkpoint.save(tmp_path / folder, codec, {"model": source})
    found = [codecs.load(str(tmp_path / folder)) for folder in "abc"]
    assert [each.name for each in found] == ["encodec_24khz", "encodec_24khz", "c"]
    assert [each.is_published for each in found] == [True, True, False]


def test_the_entropy_model_lies_beside(tiny_model: Path, tmp_path: Path) -> None:
    codec = codecs.load(str(tiny_model))._replace(place=tmp_path)
    assert not codecs.has_entropy_lm(codec)
    with pytest.raises(ModelError, match="leave out --lm"):
        codecs.load_entropy_lm(codec)
    checkpoint.save(tmp_path / "entropy", entropy_lm(codec.codec.fingerprint()))
    assert codecs.has_entropy_lm(codec) and codecs.load_entropy_lm(codec).config.num_codebooks == 4
    checkpoint.save(tmp_path / "entropy", entropy_lm("0123456789ab"))
    with pytest.raises(ModelError, match="another codec"):
        codecs.load_entropy_lm(codec)
    checkpoint.save(tmp_path / "entropy", entropy_lm("", codebooks=3))
    with pytest.raises(ModelError, match="does not know all codes"):
        codecs.load_entropy_lm(codec)


def test_what_is_no_codec_is_one_sentence(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"x")
    state = {"x": torch.zeros(1)}
    torch.save(state, tmp_path / "x")
    digest = hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest()[:8]
    (tmp_path / "x").rename(tmp_path / f"encodec_24khz-{digest}.th")
    expected: dict[str, tuple[type[AudiolmError], str]] = {
        str(tmp_path / "a.bin"): (ModelError, "is no codec"),
        str(tiny_model / "lm"): (CheckpointError, "is needed here"),
        str(tmp_path / f"encodec_24khz-{digest}.th"): (CheckpointError, "unexpected tensor"),
        str(tmp_path): (CheckpointError, "not a checkpoint folder"),
        "nonsense": (ModelError, "there is no model"),
    }
    for name, (kind, words) in expected.items():
        with pytest.raises(kind, match=words) as caught:
            codecs.load(name)
        assert str(caught.value).endswith(".")
