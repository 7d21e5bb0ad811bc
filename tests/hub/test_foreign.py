"""Which layout a folder is of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from audiogen_cli.errors import ModelError
from audiogen_cli.hub import catalog, foreign


def test_layouts_are_told_apart(
    tiny_musicgen: Callable[..., Any], saved: Callable[..., Path], edited: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert foreign.recognise(tmp_path / "empty") is None and not foreign.has_codec(tmp_path / "empty")
    assert foreign.load_codec(tmp_path / "empty") is None
    folder = saved(tiny_musicgen())
    assert foreign.recognise(folder) == "transformers"
    assert foreign.facts(folder, "transformers").sample_rate == 600
    assert torch.equal(foreign.load_codec(folder).codebooks(), catalog.load(folder).codec.codebooks())
    audiocraft = edited()
    assert foreign.recognise(audiocraft) == "audiocraft"
    assert foreign.facts(audiocraft, "audiocraft").text == "t5-large"
    assert foreign.load_codec(audiocraft).sample_rate == 16_000


def test_a_codec_without_a_language_model_makes_no_sound(
    tiny_musicgen: Callable[..., Any], saved: Callable[..., Path]
) -> None:
    folder = saved(tiny_musicgen().audio_encoder, tokenizer=False)
    with pytest.raises(ModelError, match="a codec without a language model"):
        catalog.load(folder)
