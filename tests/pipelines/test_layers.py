"""Sounds that are made one by one and heard together: none is lost, each is what it is alone, in the text's order."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from audiogen_cli.conditioners.lexicon import Lexicon
from audiogen_cli.hub import catalog
from audiogen_cli.hub.catalog import Model
from audiogen_cli.models.decoding import finish
from audiogen_cli.pipelines.generate import generate
from audiogen_cli.pipelines.layers import layer_seed, loudest, plan

RAW = {"normalize": "none", "fade": 0.0}
SECONDS = 0.6


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return catalog.load(tiny_model)


@pytest.fixture(scope="module")
def flowing(flow_model: Path) -> Model:
    return catalog.load(flow_model)


def make(model: Model, prompts: list[str], seeds: list[int], layers: bool = False, **more: int) -> list[torch.Tensor]:
    return finish(generate(model, prompts, SECONDS, seeds, layers=layers, **(RAW | more)))  # type: ignore[arg-type]


def test_the_first_layer_has_the_sounds_own_seed_and_the_others_others() -> None:
    assert layer_seed(7, 0) == 7
    seeds = [layer_seed(seed, number) for seed in range(50) for number in range(1, 50)]
    assert len(set(seeds)) == len(seeds) and max(seeds) < 2**63


def test_the_card_decides_unless_somebody_says(model: Model) -> None:
    layered = dataclasses.replace(model, card=dataclasses.replace(model.card, layers=True))
    text, apart = "dog barking in rain", [["dog barking", "rain"]]
    assert plan(model, text, None) == plan(layered, text, False) == [[text]]
    assert plan(model, text, True) == plan(layered, text, None) == apart
    assert plan(layered, None, None) == [[None]]


def test_words_are_read_before_they_are_told_apart(model: Model) -> None:
    reading = dataclasses.replace(model, lexicon=Lexicon({"mutt": "a dog", "downpour": "rain"}))
    assert plan(reading, "a mutt barking in a downpour", True) == [["a dog barking", "rain"]]
    assert plan(reading, "a mutt", False) == [["a dog"]]


def test_sounds_at_once_are_the_sum_of_what_each_is_alone(model: Model) -> None:
    [mixed] = make(model, ["a dog barking and a cat meowing"], [5], layers=True)
    dog, cat = make(model, ["a dog barking", "a cat meowing"], [5, layer_seed(5, 1)])
    assert torch.allclose(mixed, dog + cat, atol=1e-5) and not torch.allclose(dog, cat, atol=1e-3)


def test_a_setting_is_as_loud_as_what_happens_in_it(model: Model) -> None:
    [mixed] = make(model, ["dog barking in rain"], [5], layers=True)
    dog, rain = make(model, ["dog barking", "rain"], [5, layer_seed(5, 1)])
    turned = rain * (dog.square().mean() / rain.square().mean()).sqrt()
    assert abs(float(10 * (mixed - dog).square().mean().log10() - 10 * dog.square().mean().log10())) < 0.5
    assert torch.allclose(mixed - dog, turned, atol=0.05 * float(turned.abs().max()))


def test_latents_are_mixed_by_the_codec(flowing: Model) -> None:
    [mixed] = make(flowing, ["a dog barking and a cat meowing"], [5], layers=True)
    dog, cat = make(flowing, ["a dog barking", "a cat meowing"], [5, layer_seed(5, 1)])
    assert torch.allclose(mixed, dog + cat, atol=1e-5 * float(mixed.abs().max()))


def test_sounds_in_turn_each_have_their_share_of_the_time(model: Model) -> None:
    [both] = make(model, ["footsteps then a door"], [5], layers=True)
    steps, door = make(model, ["footsteps", "a door"], [5, layer_seed(5, 1)])
    half, fade = both.shape[1] // 2, round(0.02 * model.sample_rate)
    for part, whole in ((both[:, :half], steps), (both[:, half:], door)):
        inner = slice(fade, half - fade)
        assert torch.equal(part[:, inner], loudest(whole, half, model.sample_rate)[:, inner])
        assert part[0, [0, -1]].abs().max() < 0.05 * whole.abs().max()
    assert both.shape == steps.shape


def test_a_text_of_one_sound_is_made_as_without_layers(model: Model) -> None:
    assert torch.equal(make(model, ["rain"], [5], layers=True)[0], make(model, ["rain"], [5])[0])


def test_a_batch_is_its_items_to_the_bit(model: Model) -> None:
    prompts, seeds = ["rain", "dog barking in rain", "footsteps then a door in the wind"], [1, 2, 3]
    together = make(model, prompts, seeds, layers=True)
    for prompt, seed, sound in zip(prompts, seeds, together, strict=True):
        assert torch.equal(make(model, [prompt], [seed], layers=True)[0], sound)


def test_each_candidate_has_all_layers(scored_model: Path) -> None:
    model = catalog.load(scored_model)
    [one, several] = (make(model, ["dog barking in rain"], [5], layers=True, candidates=count)[0] for count in (1, 4))
    assert one.shape == several.shape


def test_the_loudest_stretch_is_found_wherever_it_is() -> None:
    sound = 0.01 * torch.randn(2, 8_000)
    for start in (0, 2_400, 6_000):
        loud = sound.clone()
        loud[:, start : start + 2_000] *= 50
        assert torch.equal(loudest(loud, 2_000, 8_000), loud[:, start : start + 2_000])
    assert torch.equal(loudest(torch.zeros(1, 100), 100, 8_000), torch.zeros(1, 100))
