"""What captions put together is taken apart again; what is one sound stays one."""

from __future__ import annotations

import numpy as np
import pytest

from audiogen_cli.data import captions, scenes
from audiogen_cli.data.captions import Part


@pytest.mark.parametrize(
    ("text", "scene"),
    [
        ("dog barking in rain", [["dog barking", "rain"]]),
        ("A dog barking in the pouring rain.", [["a dog barking", "heavy rain"]]),
        ("footsteps then a door", [["footsteps"], ["a door"]]),
        ("first a gunshot, then a dog barking", [["a gunshot"], ["a dog barking"]]),
        ("a door slams after footsteps", [["footsteps"], ["a door slams"]]),
        ("footsteps, then a door opening in the wind", [["footsteps"], ["a door opening", "wind"]]),
        ("thunder and rain", [["thunder", "rain"]]),
        ("heavy rain, thunder, wind", [["heavy rain", "thunder", "wind"]]),
        ("a baby crying while a clock ticks", [["a baby crying", "ticking clock"]]),
        ("a bird singing by the sea", [["a bird singing", "ocean"]]),
        ("a helicopter over the sea", [["a helicopter", "the sea"]]),
        ("dogs barking and cats meowing in the wind", [["dogs barking", "cats meowing", "wind"]]),
    ],
)
def test_several_sounds_are_told_apart(text: str, scene: scenes.Scene) -> None:
    assert scenes.split(text) == scene


@pytest.mark.parametrize(
    "text",
    [
        "a dog barking",
        "people talking and laughing",
        "a crowd cheering and clapping loudly",
        "a loud and deep explosion",
        "chopping meat with a knife",
        "rain on a tin roof",
        "footsteps in snow",
        "a steam train, slow and heavy",
        "a plane flying over",
        "crickets chirping on a summer night",
        "first",
        "and",
        " then ",
        "a, b, c, d, e, f",
        "rain, thunder, wind, a dog barking, a baby crying",
        "",
    ],
)
def test_one_sound_stays_as_it_was_written(text: str) -> None:
    assert scenes.split(text) == [[text]]


SOUNDS = ("a dog barking", "a rooster crowing", "a baby crying", "a gunshot", "footsteps on gravel", "a bell ringing")
PLACES = ("rain falling", "wind blowing", "sea waves on the shore", "thunder rumbling", "crickets chirping")


@pytest.mark.parametrize("seed", range(5))
def test_what_captions_mix_comes_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    right = [
        [len(turn) for turn in scenes.split(captions.mix(Part(front), Part(back), rng))] == [2]
        for front in SOUNDS
        for back in PLACES
    ]
    assert sum(right) >= 0.85 * len(right)


@pytest.mark.parametrize("seed", range(5))
def test_what_follows_comes_apart_in_its_order(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "widen", lambda caption, rng, times: caption)
    rng = np.random.default_rng(seed)
    for one in SOUNDS:
        for other in SOUNDS:
            assert scenes.split(captions.follow(Part(one), Part(other), rng)) == [[one], [other]]
