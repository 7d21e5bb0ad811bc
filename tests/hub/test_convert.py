"""A foreign model in our own layout is the same model; and the folder that is written takes nobody's place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from audiogen_cli.errors import ModelError, OutputError
from audiogen_cli.hub import catalog
from audiogen_cli.hub.convert import convert
from audiogen_cli.models.decoding import Sampling, finish
from audiogen_cli.pipelines.generate import generate


def test_converted_models_say_the_same(fixture: Any, tmp_path: Path) -> None:
    model = catalog.load(fixture.meta["repo"])
    convert(fixture.meta["repo"], tmp_path / "ours")
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
    convert(str(folder), tmp_path / "ours", "float16")
    again = catalog.load(tmp_path / "ours")
    assert again.codec.channels == channels and again.lm.out_norm.weight.dtype == torch.float32
    half = model.lm.heads[0].weight.half().float()
    assert torch.equal(again.lm.heads[0].weight, half)
    assert again.codec.fingerprint() == model.codec.fingerprint()
    count = sum(tensor.numel() for tensor in again.lm.parameters())
    assert (tmp_path / "ours" / "lm" / "model.safetensors").stat().st_size < 2.5 * count + 10_000


def test_a_flow_is_converted_too(flow_model: Path, painted_model: Path, tmp_path: Path) -> None:
    for folder in (flow_model, painted_model):
        convert(str(folder), tmp_path / folder.name)
        sounds = [finish(generate(catalog.load(f), ["rain"], 0.4, [0])) for f in (folder, tmp_path / folder.name)]
        assert torch.equal(sounds[0][0], sounds[1][0])


def test_a_lexicon_is_converted_too(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "reading")
    (tmp_path / "reading" / "words.txt").write_text("a dog: mutt\n")
    convert(str(tmp_path / "reading"), tmp_path / "out")
    assert catalog.load(tmp_path / "out").heard("a mutt") == "a dog"


def test_what_is_there_is_kept_until_all_is_written(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("dear diary")
    for force, reason in ((False, "is there already; overwrite it with --force"), (True, "holds something that is no")):
        with pytest.raises(OutputError, match=reason):
            convert(str(tiny_model), tmp_path / "notes", force=force)
    convert(str(tiny_model), tmp_path / "ours")
    before = catalog.find(tmp_path / "ours").hash
    with pytest.raises(ModelError):
        convert(str(tmp_path / "notes"), tmp_path / "ours", force=True)
    assert catalog.find(tmp_path / "ours").hash == before and not list(tmp_path.glob("*.beside"))
    convert(str(tmp_path / "ours"), tmp_path / "ours", "float16", force=True)
    assert catalog.find(tmp_path / "ours").hash != before and catalog.load(tmp_path / "ours").name == "tiny"


def test_the_place_is_looked_at_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is there already"):
        convert("facebook/nothing", tmp_path)
