"""audiolm generate --melody: what the file says of it, and that it is made again by it and by no other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import Result

from audiogen_cli.cli.making import recipe_of
from audiogen_cli.data import audio
from audiogen_cli.hub import catalog
from audiogen_cli.models.decoding import finish
from audiogen_cli.pipelines.generate import generate

Run = Callable[..., Result]
Refused = Callable[..., str]


def write_tune(path: str, frequency: float = 440.0) -> Path:
    Path(path).parent.mkdir(exist_ok=True)
    time = torch.arange(12_000) / 16_000
    audio.write(path, 0.5 * (2 * torch.pi * frequency * time).sin()[None], 16_000, force=True)
    return Path(path)


@pytest.fixture
def made(audiolm: Run, melody_model: Path) -> Path:
    """tunes/a.wav, and a sound made by it."""
    arguments = ("--melody", write_tune("tunes/a.wav"), "--seconds", 1.6, "--seed", 3, "-o", "made.wav")
    result = audiolm("generate", "rain", *arguments, "--model", melody_model)
    assert result.exit_code == 0, result.output
    return Path("made.wav")


def test_the_file_holds_what_the_pipeline_makes_and_says_by_which_melody(made: Path, melody_model: Path) -> None:
    recipe = recipe_of(made)
    digest = hashlib.sha256(Path("tunes/a.wav").read_bytes()).hexdigest()[:12]
    assert (recipe.melody, recipe.melody_hash) == ("tunes/a.wav", digest)
    [wanted] = finish(generate(catalog.load(melody_model), ["rain"], 1.6, [3], melody=audio.read("tunes/a.wav")))
    torch.testing.assert_close(audio.read(made).waveform, wanted, atol=1e-4, rtol=0)


def test_each_melody_makes_its_own_sound(audiolm: Run, made: Path, melody_model: Path) -> None:
    rain = ("generate", "rain", "--seconds", 1.6, "--seed", 3, "--model", melody_model, "-o")
    assert audiolm(*rain, "none.wav").exit_code == 0
    assert audiolm(*rain, "other.wav", "--melody", write_tune("tunes/b.wav", 587.33)).exit_code == 0
    assert recipe_of(Path("none.wav")).melody is None
    sounds = [audio.read(name).waveform for name in ("made.wav", "none.wav", "other.wav")]
    assert not any(torch.equal(sounds[i], sounds[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_like_makes_the_same_bytes_by_the_melody_where_it_was_or_is(audiolm: Run, made: Path) -> None:
    again = audiolm("generate", "--like", made, "-o", "again.wav")
    assert again.exit_code == 0, again.output
    Path("tunes/a.wav").rename("moved.wav")
    moved = audiolm("generate", "--like", made, "--melody", "moved.wav", "-o", "moved-too.wav")
    assert moved.exit_code == 0, moved.output
    assert Path("again.wav").read_bytes() == Path("moved-too.wav").read_bytes() == made.read_bytes()


def test_like_refuses_a_melody_that_is_missing_changed_or_too_many(
    audiolm: Run, refused: Refused, made: Path, melody_model: Path
) -> None:
    like = ("generate", "--like", made, "-o", "again.wav")
    write_tune("tunes/a.wav", 450.0)
    assert "made with another melody than tunes/a.wav holds now" in refused(*like, exit_code=2)
    Path("tunes/a.wav").unlink()
    assert "with the melody tunes/a.wav, which is not there" in refused(*like, exit_code=2)
    assert "there is no such file" in refused(*like, "--melody", "b.wav", exit_code=2)
    plain = ("generate", "rain", "--seconds", 0.3, "--seed", 3, "--model", melody_model, "-o", "plain.wav")
    assert audiolm(*plain).exit_code == 0
    tune = write_tune("tunes/a.wav")
    words = refused("generate", "--like", "plain.wav", "--melody", tune, "-o", "again.wav", exit_code=2)
    assert "made without a melody; leave out --melody" in words


def test_prompts_that_are_there_by_another_melody_are_not_taken_for_done(
    audiolm: Run, refused: Refused, melody_model: Path
) -> None:
    Path("p.txt").write_text("dog\nrain\n")
    prompts = ("generate", "--prompts", "p.txt", "--seconds", 0.3, "--model", melody_model, "--melody")
    first, second = write_tune("tunes/a.wav"), write_tune("tunes/b.wav", 587.33)
    assert audiolm(*prompts, first).stdout.split() == ["dog-0.wav", "rain-0.wav"]
    assert "2 of 2 sounds are there already" in audiolm(*prompts, first).stderr
    assert "made otherwise" in refused(*prompts, second, exit_code=2)


def test_a_melody_that_cannot_be_used_is_one_sentence(refused: Refused, melody_model: Path) -> None:
    tune = write_tune("tune.wav")
    Path("empty.wav").touch()
    Path("text.wav").write_text("no sound at all")
    audio.write("silent.wav", torch.zeros(2, 16_000), 16_000)
    audio.write("click.wav", torch.ones(1, 100), 16_000)
    rain = ("generate", "rain", "--seconds", 0.3, "-o", "x.wav")
    for name, words in (
        ("missing.wav", "there is no such file"),
        ("empty.wav", "is an empty file"),
        ("text.wav", "is not a sound file"),
        ("silent.wav", "is silent; give one in which it can be heard"),
        ("click.wav", "lasts 0.00625 s; give one of at least 0.1 s"),
    ):
        assert words in refused(*rain, "--model", melody_model, "--melody", name, exit_code=2)
    assert "tiny hears no melody; choose musicgen-melody" in refused(*rain, "--melody", tune, exit_code=2)
    for part in ("codec", "encoder", "semantic", "coarse"):
        Path("staged", part).mkdir(parents=True)
    assert "--melody means nothing to staged" in refused(*rain, "--model", "staged", "--melody", tune, exit_code=2)
    assert "leave out --melody" in refused("generate", tune, "--melody", tune, "-o", "x.wav", exit_code=2)
