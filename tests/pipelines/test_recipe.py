"""What a file says about itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from audiogen_cli.data import audio
from audiogen_cli.pipelines import recipe as module
from audiogen_cli.pipelines.recipe import Recipe, from_comment, to_comment

RECIPE = Recipe(
    kind="generate",
    prompt='dog "barking" in rain, 犬',
    seed=7,
    seconds=5.0,
    guidance=3.0,
    temperature=1.0,
    top_k=250,
    top_p=0.0,
    normalize="loudness",
    fade=0.01,
    format="wav",
    bit_depth="16",
    model="sounds-small",
    model_hash="0123456789ab",
    device="cpu",
    dtype="float32",
    version="0.1.0",
)


def test_a_recipe_survives_the_comment() -> None:
    assert from_comment(to_comment(RECIPE)) == RECIPE


@pytest.mark.parametrize("comment", ["", "a holiday", "[]", "{}", '{"audiolm": 3}', '{"audiolm": {"seed": 1}}'])
def test_other_comments_are_no_recipes(comment: str) -> None:
    assert from_comment(comment) is None


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "x" * 5000},
        {"prompt": "bell\a"},
        {"seconds": 0.0},
        {"seconds": 1e6},
        {"seconds": float("nan")},
        {"seed": -1},
        {"extend_stride": 0.0},
        {"guidance": float("inf")},
        {"format": "flac", "bit_depth": "float"},
    ],
)
def test_what_cannot_be_made_is_no_recipe(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        replace(RECIPE, **change)


def test_a_sound_may_be_without_a_prompt() -> None:
    assert replace(RECIPE, prompt="").prompt == ""


def test_the_choices_are_those_of_the_audio_files() -> None:
    for name in ("Format", "BitDepth", "Normalization"):
        assert get_args(getattr(module, name)) == get_args(getattr(audio, name))
