"""audiolm info on our files and on others'."""

from __future__ import annotations

import json
from collections.abc import Callable

import soundfile
import torch
from typer.testing import Result

from audiogen_cli.data import audio

Run = Callable[..., Result]


def test_a_file_tells_how_it_was_made(audiolm: Run) -> None:
    audiolm("generate", "rain [loud]", "--seed", 3, "--seconds", 0.5, "-o", "rain.flac")
    shown = dict(line.split(maxsplit=1) for line in audiolm("info", "rain.flac").stdout.splitlines())
    assert (shown["prompt"], shown["seed"], shown["seconds"]) == ("rain [loud]", "3", "0.5")
    data = json.loads(audiolm("info", "rain.flac", "--json").stdout)
    assert (data["sample_rate"], data["made"]["prompt"], data["made"]["seed"]) == (8000, "rain [loud]", 3)


def test_a_strangers_file_shows_its_header(audiolm: Run) -> None:
    soundfile.write("plain.wav", torch.zeros(100, 2).numpy(), 44_100)
    audio.write("other.wav", torch.zeros(1, 100), 8000, comment="a holiday")
    assert "44100" in audiolm("info", "plain.wav").stdout
    assert "a holiday" in audiolm("info", "other.wav").stdout
    assert json.loads(audiolm("info", "other.wav", "--json").stdout)["made"] is None


def test_what_is_no_sound_is_one_sentence(refused: Callable[..., str]) -> None:
    assert "no such file" in refused("info", "missing.wav", exit_code=2)
