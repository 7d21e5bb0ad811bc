"""The best of several candidates on the command line: the score, the metadata, the same bytes again, the refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from audiogen_cli.cli.making import recipe_of
from audiogen_cli.hub import catalog
from audiogen_cli.models.decoding import finish
from audiogen_cli.pipelines.generate import choose

Run = Callable[..., Result]
Refused = Callable[..., str]


def test_the_score_is_in_the_json_and_the_number_in_the_file(audiolm: Run, scored_model: Path) -> None:
    arguments = ("generate", "rain", "--seed", 3, "--seconds", 0.5, "--model", scored_model, "--json")
    [chosen] = finish(choose(catalog.load(scored_model), ["rain"], 0.5, [3], candidates=4))
    made = json.loads(audiolm(*arguments, "--candidates", 4, "-o", "four.wav").stdout)
    assert chosen.score is not None
    assert (made["candidates"], made["score"]) == (4, round(chosen.score, 4))
    assert recipe_of(Path("four.wav")).candidates == 4
    assert "score" not in json.loads(audiolm(*arguments, "-o", "one.wav").stdout)


def test_like_makes_the_same_bytes(audiolm: Run, scored_model: Path) -> None:
    how = ("--seconds", 0.5, "--seed", 3, "--candidates", 6, "--model", scored_model)
    assert audiolm("generate", "a dog barking", *how, "-o", "a.wav").exit_code == 0
    again = audiolm("generate", "--like", "a.wav", "-o", "b.wav")
    assert again.exit_code == 0, again.output
    assert Path("b.wav").read_bytes() == Path("a.wav").read_bytes()


def test_a_row_of_a_prompts_file_may_say_how_many(audiolm: Run, scored_model: Path) -> None:
    Path("p.csv").write_text("prompt,candidates\nrain,\ndog,3\nbell,3\n")
    how = ("--seconds", 0.3, "--seed", 1, "--model", scored_model)
    result = audiolm("generate", "--prompts", "p.csv", *how)
    assert result.exit_code == 0, result.output
    assert [recipe_of(Path(path)).candidates for path in result.stdout.split()] == [1, 3, 3]
    audiolm("generate", "dog", *how, "--candidates", 3, "-o", "alone.wav")
    assert Path("alone.wav").read_bytes() == Path("dog-1.wav").read_bytes()


def test_the_card_says_how_many_when_nobody_does(audiolm: Run, scored_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(scored_model, tmp_path / "model")
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | {"candidates": 2}))
    audiolm("generate", "rain", "--seconds", 0.3, "--model", folder, "-o", "two.wav")
    assert recipe_of(Path("two.wav")).candidates == 2
    audiolm("generate", "--unconditional", "--seconds", 0.3, "--model", folder, "-o", "none.wav")
    assert recipe_of(Path("none.wav")).candidates == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rain", "--candidates", 2), "no scorer"),
        (("rain", "--candidates", 0), "--candidates"),
        (("rain", "--candidates", 65), "--candidates"),
        (("--unconditional", "--candidates", 2), "the text they answer"),
        (("--prompts", "p.jsonl"), "no scorer"),
        (("--prompts", "bad.csv"), "correct candidates"),
        (("--prompts", "many.jsonl"), "between 1 and 64"),
    ],
)
def test_bad_numbers_are_one_sentence(refused: Refused, arguments: tuple[object, ...], words: str) -> None:
    Path("p.jsonl").write_text('{"prompt": "rain", "candidates": 2}\n')
    Path("many.jsonl").write_text('{"prompt": "rain", "candidates": 100}\n')
    Path("bad.csv").write_text("prompt,candidates\nrain,some\n")
    assert words in refused("generate", *arguments, exit_code=2)


def test_a_recording_is_continued_without_a_choice(refused: Refused) -> None:
    import torch

    from audiogen_cli.data import audio

    audio.write("bell.wav", 0.1 * torch.randn(1, 4000), 8000)
    assert "leave out --candidates" in refused("generate", "bell.wav", "--candidates", 2, exit_code=2)


def test_a_file_that_says_nothing_of_itself_has_no_recipe(refused: Refused) -> None:
    import torch

    from audiogen_cli.data import audio

    audio.write("bell.wav", 0.1 * torch.randn(1, 4000), 8000)
    assert "does not say how it was made" in refused("generate", "--like", "bell.wav", exit_code=2)
