"""audiolm train valle, and then audiolm speak: from transcribed recordings to a text said in a recording's voice."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import Result

from audiogen_cli.data import audio
from audiogen_cli.pipelines.recipe import from_comment

RECIPE = """
[model]
dim = 16
num_layers = 1
num_heads = 2
window_seconds = 4.0
prompt_seconds = 0.2

[loop]
steps = 2
batch_size = 2
workers = 0
"""

Run = Callable[..., Result]


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Noise with transcripts, of one second and less, at 8 kHz."""
    folder = tmp_path / "speech"
    folder.mkdir()
    for index, text in enumerate(("good morning", "rain", "how are you", "well, thank you")):
        noise = torch.randn(1, 3_000 + 700 * index, generator=torch.Generator().manual_seed(index)) * 0.1
        audio.write(folder / f"{index}.wav", noise, 8_000)
        (folder / f"{index}.txt").write_text(text)
    (tmp_path / "tiny.toml").write_text(RECIPE)
    return folder


@pytest.fixture
def speaker(audiolm: Run, speech: Path, tiny_model: Path) -> Path:
    train = ("train", "valle", "--data", speech, "--recipe", "tiny.toml", "-o", "run", "--licence", "CC0")
    result = audiolm(*train, "--codec", tiny_model / "codec")
    assert result.exit_code == 0, result.output
    assert result.stdout == "run/model\n"
    return Path("run/model")


def test_from_transcribed_recordings_to_speech(audiolm: Run, speaker: Path, speech: Path) -> None:
    said = ("--voice", speech / "2.wav", "--transcript", "how are you", "--model", speaker, "--seed", 3)
    made = audiolm("speak", "Good rain!", *said)
    assert made.exit_code in (0, 1), made.output
    assert made.stdout == "good-rain-3.wav\n" and "seed 3" in made.stderr
    assert (made.exit_code == 1) == ("the speech went wrong" in made.stderr)
    found = audio.info("good-rain-3.wav")
    recipe = from_comment(found.comment)
    assert recipe is not None and (found.sample_rate, found.channels) == (8_000, 1)
    assert (recipe.kind, recipe.prompt, recipe.source, recipe.transcript) == (
        "speak", "Good rain!", "2.wav", "how are you",
    )  # fmt: skip
    assert (recipe.trouble is None) == (made.exit_code == 0)
    again = audiolm("speak", "Good rain!", *said, "-o", "again.wav", "--json")
    assert Path("again.wav").read_bytes() == Path("good-rain-3.wav").read_bytes()
    told = json.loads(again.stdout)
    assert (told["path"], told["seed"], told["top_p"], told["tries"]) == ("again.wav", 3, 0.9, 3)
    assert "how are you" in audiolm("info", "again.wav").stdout
    like = audiolm("speak", "--like", "again.wav", "--voice", speech / "2.wav", "-o", "like.wav", "--spectrogram")
    assert like.exit_code == made.exit_code, like.output
    assert Path("like.wav").read_bytes() == Path("again.wav").read_bytes() and Path("like.png").is_file()
    assert "another recording" in audiolm("speak", "--like", "again.wav", "--voice", speech / "1.wav").stderr


def test_what_the_run_leaves(audiolm: Run, speaker: Path) -> None:
    log = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    assert {"loss", "first_loss", "rest_loss", "gradient_norm"} <= log[0].keys()
    assert {"valid_first_loss", "valid_rest_loss"} <= log[-1].keys()
    facts = json.loads(audiolm("models", "info", speaker, "--json").stdout)
    assert (facts["name"], facts["licence"]) == ("run", "CC0")


def test_it_is_refused_where_it_does_not_belong(
    audiolm: Run, refused: Callable[..., str], speaker: Path, tiny_model: Path, speech: Path
) -> None:
    assert "use `audiolm speak`" in refused("generate", "rain", "--model", speaker, exit_code=4)
    assert "use `audiolm speak`" in refused("continue", speech / "1.wav", "--model", speaker, exit_code=4)
    assert "use `audiolm generate`" in refused("speak", "rain", "--model", tiny_model, exit_code=4)
    assert "no room" in refused("speak", "r" * 400, "--model", speaker, exit_code=2)
    assert "there is no" in refused("speak", "rain", "--voice", "none.wav", "--model", speaker, exit_code=2)


def test_what_cannot_be_used_is_a_sentence(refused: Callable[..., str]) -> None:
    assert "audiolm train valle" in refused("speak", "good morning", "--voice", "prompt.wav", exit_code=2)
    assert "say what to speak" in refused("speak", "--voice", "prompt.wav", exit_code=2)
    assert "the prompt is empty" in refused("speak", " ", exit_code=2)
    assert "give both" in refused("speak", "rain", "--transcript", "hm", exit_code=2)
