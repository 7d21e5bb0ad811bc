"""audiolm evaluate codec: a table, a report, a picture; and `audiolm evaluate` is what it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import Result

from audiogen_cli.data import audio


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for seed in range(2):
        waveform = 0.1 * torch.randn(2, 4_410, generator=torch.Generator().manual_seed(seed))
        audio.write(folder / f"{seed}.wav", waveform, 11_025)
    return folder


def test_a_table_a_report_and_a_picture(
    audiolm: Callable[..., Result], tiny_model: Path, folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    result = audiolm(
        *("evaluate", "codec", folder, "--model", tiny_model, "--kbps", "0.4", "--kbps", "0.8", "--opus", "12"),
        *("--shortest", "0.1", "--no-listen", "-o", "report.json", "--plot", "rates.png"),
    )
    assert result.exit_code == 0, result.output
    table = result.stdout.splitlines()
    assert table[0].startswith("2 recordings, 0.8 s, heard at 8000 Hz; codec tiny")
    assert [line.split("|")[1].strip() for line in table[4:]] == ["tiny", "tiny", "Opus"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["kbps"] for row in report["rows"][:2]] == pytest.approx([0.4, 0.8], rel=0.02)
    assert set(report["rows"][0]["scores"]) == {"si_snr", "mel_distance"}
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")


def test_the_scores_can_be_taken_at_another_rate(
    audiolm: Callable[..., Result], tiny_model: Path, folder: Path
) -> None:
    arguments = ("--model", tiny_model, "--shortest", "0.1", "--kbps", "0.8", "--opus", "12", "--no-listen", "--json")
    result = audiolm("evaluate", "codec", folder, *arguments, "--heard-at", "6000")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["sample_rate"] == 6_000
    own = json.loads(audiolm("evaluate", "codec", folder, *arguments).stdout)
    assert own["rows"][0]["scores"]["mel_distance"] != report["rows"][0]["scores"]["mel_distance"]


def test_json_is_one_object_and_the_codec_can_stand_alone(
    audiolm: Callable[..., Result], tiny_model: Path, folder: Path
) -> None:
    arguments = ("--model", tiny_model, "--shortest", "0.1", "--clips", "1", "--no-listen", "--no-peers", "--json")
    result = audiolm("evaluate", "codec", folder, *arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["clips"] == 1
    assert [round(row["kbps"], 1) for row in report["rows"]] == [0.2, 0.4, 0.6, 0.8]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (("missing",), 2, "holds no recordings"),
        (("{}", "-o", "missing/report.json"), 3, "missing does not exist"),
        (("{}", "--kbps", "0"), 2, "--kbps"),
        (("{}", "--kbps", "7", "--shortest", "0.1"), 2, "cannot make 7 kbps"),
        (("{}", "--opus", "1", "--shortest", "0.1"), 2, "Opus"),
        (("{}", "--lyra", "nowhere", "--shortest", "0.1"), 4, "nowhere has no"),
        (("{}", "--shortest", "5"), 2, "5 to 10 seconds"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    refused: Callable[..., str], tiny_model: Path, folder: Path, arguments: tuple[str, ...], exit_code: int, words: str
) -> None:
    filled = [str(folder) if argument == "{}" else argument for argument in arguments]
    assert words in refused("evaluate", "codec", *filled, "--model", tiny_model, exit_code=exit_code)


def test_evaluate_alone_is_still_a_command(refused: Callable[..., str], tiny_model: Path) -> None:
    assert "missing.csv" in refused("evaluate", "--model", tiny_model, "--prompts", "missing.csv", exit_code=2)
