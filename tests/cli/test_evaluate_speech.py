"""audiolm evaluate speech: tables, JSON, what is wrong in one sentence; with a recogniser that is not the real one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import Result

from audiogen_cli.data import audio

TEXTS = ("good morning", "rain", "how are you")
RECIPE = """
[model]
dim = 16
num_layers = 1
num_heads = 2
window_seconds = 4.0
prompt_seconds = 0.2
joined = 0.0
shifts = 2

[loop]
steps = 2
batch_size = 2
workers = 0
"""


class Deaf:
    """Hears one word in everything."""

    hash = "0123456789ab"

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def hears(self, waveform: Tensor) -> str:
        return "rain"


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    folder = tmp_path / "speech"
    folder.mkdir()
    for index, text in enumerate(TEXTS):
        noise = torch.randn(1, 9_000 + 700 * index, generator=torch.Generator().manual_seed(index)) * 0.1
        audio.write(folder / f"{index}.wav", noise, 8_000)
        (folder / f"{index}.txt").write_text(text)
    return folder


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audiogen_cli.metrics.moonshine.Moonshine", Deaf)


def test_recordings_a_codec_a_voice_and_a_continuation(
    audiolm: Callable[..., Result], tiny_model: Path, speech: Path, tmp_path: Path, deaf: None
) -> None:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    train = ("train", "valle", "--data", speech, "--recipe", "tiny.toml", "-o", "run", "--codec", tiny_model / "codec")
    trained = audiolm(*train)
    assert trained.exit_code == 0, trained.output
    asked = ("--codec", tiny_model, "--codebooks", 2, "--speaker", "run/model", "--tries", 1)
    going_on = ("--continue", tiny_model, "--prompt-seconds", 0.5, "--seconds", 0.3)
    result = audiolm("evaluate", "speech", speech, *asked, *going_on, "-o", "report.json")
    assert result.exit_code == 0, result.output
    names = [line.split("|")[1].strip() for line in result.stdout.splitlines() if line.startswith("|")]
    assert [name for name in names if name and not name.startswith("-")] == [
        "recordings",
        "tiny, 2 codebooks (0.40 kbps)",
        "said",
        "the recordings' own rest",
        "continued",
    ]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["recogniser"] == Deaf.hash
    assert [row["words"]["said"] for row in report["spoken"]] == [6, 6, 6]
    assert [row["words"]["wrong"] + row["words"]["missing"] for row in report["spoken"]] == [5, 5, 5]
    assert report["continued"][1]["kept"] == 1.0
    said = json.loads(audiolm("evaluate", "speech", speech, *asked, "--voices", "--seed", 4, "--json").stdout)
    assert said["spoken"][-1]["name"] == "said in another recording's voice" and said["continued"] == []


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (("missing",), 2, "missing is not a folder"),
        (("{}", "--codebooks", "2"), 2, "give --codec"),
        (("{}", "--shortest", "5"), 2, "fewer than 2"),
        (("{}", "-o", "missing/report.json"), 3, "missing does not exist"),
        (("{}", "--recogniser", "{}"), 4, "encoder_model.ort"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    refused: Callable[..., str], speech: Path, arguments: tuple[str, ...], exit_code: int, words: str
) -> None:
    filled = [str(speech) if argument == "{}" else argument for argument in arguments]
    assert words in refused("evaluate", "speech", *filled, exit_code=exit_code)


def test_a_model_that_does_not_speak_is_refused(
    refused: Callable[..., str], tiny_model: Path, speech: Path, deaf: None
) -> None:
    assert "no VALL-E" in refused("evaluate", "speech", speech, "--speaker", tiny_model, exit_code=2)
