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


def test_converted_models_say_the_same(fixture: Any, tmp_path: Path) -> None:
    from audiogen_cli.models.decoding import Sampling, finish
    from audiogen_cli.pipelines.generate import generate

    model = catalog.load(fixture.meta["repo"])
    catalog.convert(fixture.meta["repo"], tmp_path / "ours")
    again = catalog.load(tmp_path / "ours")
    assert not list((tmp_path / "ours").rglob("*.bin")) and again.card == model.card
    assert torch.equal(again.codec.encode(fixture.expected["wav"]), fixture.expected["codes"])
    greedy = Sampling(temperature=0)
    [sound] = finish(generate(again, [fixture.meta["text"]], 1.0, [0], greedy, normalize="none", fade=0))
    torch.testing.assert_close(sound, fixture.expected["audio"][0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("channels", [1, 2])
def test_stereo_and_half_precision_survive_conversion(
    tiny_musicgen: Callable[..., Any], saved: Callable[..., Path], tmp_path: Path, channels: int
) -> None:
    folder = saved(tiny_musicgen(channels=channels))
    model = catalog.load(folder)
    catalog.convert(str(folder), tmp_path / "ours", "float16")
    again = catalog.load(tmp_path / "ours")
    assert again.codec.channels == channels and again.lm.out_norm.weight.dtype == torch.float32
    half = model.lm.heads[0].weight.half().float()
    assert torch.equal(again.lm.heads[0].weight, half)
    assert again.codec.fingerprint() == model.codec.fingerprint()
    count = sum(tensor.numel() for tensor in again.lm.parameters())
    assert (tmp_path / "ours" / "lm" / "model.safetensors").stat().st_size < 2.5 * count + 10_000
