"""Foreign models through the command line: by a Hub name from the cache, from a Hub on this machine, and converted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

from audiogen_cli.data import audio
from audiogen_cli.errors import ModelError
from audiogen_cli.hub import catalog

Run = Callable[..., Result]
GREEDY = ("--temperature", 0, "--guidance", 3, "--seconds", 1, "--normalize", "none", "--fade", 0)
FLOAT = ("--bit-depth", "float", "-o", "sound.wav")


def test_generate_makes_audiocrafts_sound_by_a_hub_name_and_after_convert(audiolm: Run, fixture: Any) -> None:
    meta, wanted = fixture.meta, fixture.expected["audio"][0]
    for model in (meta["repo"], meta["repo"].partition("/")[2], str(fixture.snapshot), "ours"):
        if model == "ours":
            assert audiolm("models", "convert", meta["repo"], "ours").stdout == "ours\n"
        result = audiolm("generate", meta["text"], "--model", model, *GREEDY, *FLOAT, "--force")
        assert result.exit_code == 0, result.stderr
        torch.testing.assert_close(audio.read("sound.wav").waveform, wanted, atol=1e-4, rtol=0)


def test_the_rest_of_the_command_works_with_these_models(audiolm: Run, fixture: Any) -> None:
    repo = fixture.meta["repo"]
    result = audiolm("generate", "--unconditional", "--model", repo, "--seconds", 0.5, "--seed", 1, "-o", "u.wav")
    assert result.exit_code == 0, result.stderr
    assert audiolm("generate", "--like", "u.wav", "-o", "again.wav").exit_code == 0
    assert Path("u.wav").read_bytes() == Path("again.wav").read_bytes()
    more = audiolm("continue", "u.wav", "--model", repo, "--seconds", 0.3, "--text", "wind", "-o", "more.wav")
    assert more.exit_code == 0, more.stderr
    assert audio.info(Path("more.wav")).seconds == pytest.approx(0.8, abs=0.01)


def test_defaults_are_audiocrafts(fixture: Any) -> None:
    card = catalog.find(fixture.meta["repo"]).card
    expected = (5.0, 2.0) if fixture.meta["kind"] == "audiogen" else (15.0, 18.0)
    assert (card.seconds, card.extend_stride, card.licence) == (*expected, "CC-BY-NC-4.0")
    assert (card.sampling.top_k, card.sampling.guidance, card.sampling.temperature) == (250, 3.0, 1.0)


def test_a_stride_beyond_the_window_is_refused(refused: Callable[..., str], fixture: Any) -> None:
    text = refused("generate", "x", "--model", fixture.meta["repo"], "--extend-stride", 40, exit_code=2)
    assert "does not fit into the model's window" in text


def test_bad_names_are_one_sentence(refused: Callable[..., str], fixture: Any) -> None:
    assert "did you mean 'audiogen-medium'" in refused("generate", "x", "--model", "audiogen-medum", exit_code=4)
    assert "HF_HUB_OFFLINE" in refused("generate", "x", "--model", "facebook/other", exit_code=4)
    assert "audiolm models pull" in refused("models", "info", "facebook/other", exit_code=4)
    assert "is not in the cache" in refused("models", "remove", "musicgen-large", exit_code=4)


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("it-ran"),))


def test_bad_files_and_a_long_text_are_one_sentence(
    refused: Callable[..., str], fixture: Any, edited: Callable[..., Path]
) -> None:
    folder = edited(codec=lambda package: package.update(version=RunsCode()))
    assert "wants to run code" in refused("generate", "x", "--model", folder, exit_code=4)
    assert not Path("it-ran").exists()
    (folder / "compression_state_dict.bin").unlink()
    assert "has no compression_state_dict.bin" in refused("models", "convert", folder, "ours", exit_code=4)
    text = refused("generate", "x " * 400, "--model", fixture.meta["repo"], exit_code=2)
    assert "tokens of at most 256; shorten it" in text


def test_a_codec_that_does_not_fit_is_refused(fixture: Any, tmp_path: Path) -> None:
    """The other fixture's codec in the place of this one's."""
    other = "musicgen" if fixture.meta["kind"] == "audiogen" else "audiogen"
    shutil.copytree(fixture.snapshot, tmp_path / "mixed")
    [codec] = (fixture.cache.parent / other).glob("models--facebook--*/snapshots/*/compression_state_dict.bin")
    shutil.copyfile(codec, tmp_path / "mixed" / codec.name)
    with pytest.raises(ModelError, match="is made for a codec at"):
        catalog.load(tmp_path / "mixed")


@pytest.fixture
def served(hub: Any, tiny_musicgen: Callable[..., Any], saved: Callable[..., Path]) -> Any:
    """A tiny MusicGen on a Hub on this machine."""
    folder = saved(tiny_musicgen())
    hub.repos["some/music"] = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    return hub


def test_the_first_use_fetches_and_says_the_licence_and_the_second_does_not(audiolm: Run, served: Any) -> None:
    how = ("--model", "some/music", "--seconds", 0.2, "--seed", 0)
    first = audiolm("generate", "rain", *how)
    assert first.exit_code == 0 and "licence of the weights: CC-BY-NC-4.0" in first.stderr, first.stderr
    served.log.clear()
    second = audiolm("generate", "rain", *how, "--force")
    assert second.exit_code == 0 and "licence" not in second.stderr and not served.log


def test_models_can_be_pulled_listed_shown_and_removed(audiolm: Run, served: Any) -> None:
    assert "not fetched yet" in audiolm("models", "info", "audiogen-medium").stdout
    assert "CC-BY-NC-4.0" in audiolm("models", "info", "audiogen-medium").stdout
    pulled = audiolm("models", "pull", "some/music")
    assert pulled.exit_code == 0 and Path(pulled.stdout.strip()).is_dir(), pulled.stderr
    rows = [json.loads(line) for line in audiolm("models", "list", "--json").stdout.splitlines()]
    [mine] = [row for row in rows if row["name"] == "some/music"]
    assert mine["where"].startswith("cached")
    assert {"audiogen-medium", "musicgen-stereo-large"} <= {row["name"] for row in rows}
    shown = json.loads(audiolm("models", "info", "some/music", "--json").stdout)
    assert (shown["seconds"], len(shown["hash"])) == (15.0, 12)
    removed = audiolm("models", "remove", "some/music")
    assert removed.exit_code == 0 and "removed some/music" in removed.stderr
    assert "some/music" not in audiolm("models", "list").stdout


def test_a_codec_repository_can_be_pulled_and_converted(
    audiolm: Run, hub: Any, tiny_musicgen: Callable[..., Any], saved: Callable[..., Path]
) -> None:
    from audiogen_cli.hub import checkpoint

    folder = saved(tiny_musicgen().audio_encoder, tokenizer=False)
    hub.repos["some/codec"] = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert audiolm("models", "pull", "some/codec").exit_code == 0
    assert audiolm("models", "convert", "some/codec", "codec").exit_code == 0
    assert checkpoint.load(Path("codec"), expect=("encodec",)).sample_rate == 600
    assert "without a language model" in audiolm("generate", "x", "--model", "some/codec").stderr
    again = audiolm("models", "convert", "some/codec", "codec")
    assert again.exit_code == 3 and "--force" in again.stderr
    assert audiolm("models", "convert", "some/codec", "codec", "--force").exit_code == 0
