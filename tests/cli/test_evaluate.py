"""audiolm evaluate says what is missing before it computes anything; tests/pipelines/test_evaluate.py has the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (("--prompts", "missing.csv"), 2, "missing.csv"),
        (("--tagger", "missing.tflite"), 4, "missing.tflite"),
        (("-o", "missing/report.json"), 3, "missing does not exist"),
        (("--sheets", "missing/sheets"), 3, "missing does not exist"),
        (("--pairs", "missing.csv"), 2, "missing.csv"),
        (("--paraphrases", "missing.csv"), 2, "missing.csv"),
        (("--seeds", 0), 2, "--seeds"),
        (("--clips", -1), 2, "--clips"),
        (("--tier", "A"), 2, "name that folder too"),
    ],
)
def test_what_is_missing_is_one_sentence(
    refused: Callable[..., str], tiny_model: Path, arguments: tuple[object, ...], exit_code: int, words: str
) -> None:
    assert words in refused("evaluate", "--model", tiny_model, *arguments, exit_code=exit_code)
