"""A sound that goes on has the phases of noise where the judge clearly hears it better so, and no other sound has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from audiogen_cli.hub import catalog
from audiogen_cli.hub.catalog import Model
from audiogen_cli.models.decoding import finish
from audiogen_cli.models.judge import Judge
from audiogen_cli.pipelines import phases
from audiogen_cli.pipelines.generate import generate


@pytest.fixture
def model(judged_model: Path) -> Model:
    return catalog.load(judged_model)


@pytest.fixture
def better_by(monkeypatch: pytest.MonkeyPatch, model: Model) -> dict[str, float]:
    """How much better than the vocoder's the judge finds the sound of noise, which is all ones here."""
    found = {"nats": 0.0}
    monkeypatch.setattr(type(model.codec), "rough", lambda _, latents: torch.ones(len(latents), 160 * latents.shape[2]))

    def score(_: Judge, waveform: Tensor, *__: object) -> float:
        return found["nats"] if bool((waveform == 1).all()) else 0.0

    monkeypatch.setattr(Judge, "score", score)
    return found


@pytest.mark.parametrize(("text", "nats", "noise"), [("wind", 0.3, True), ("wind", 0.2, False), ("a dog", 9.0, False)])
def test_noise_has_to_go_on_and_to_be_clearly_better(
    model: Model, better_by: dict[str, float], text: str, nats: float, noise: bool
) -> None:
    better_by["nats"], latents = nats, torch.randn(1, 8, 5)
    made = phases.sound(model, text, latents)
    assert torch.equal(made, model.sound(latents)[0]) is not noise


def test_without_a_text_or_a_judge_it_is_the_codecs(model: Model, painted_model: Path, better_by: object) -> None:
    latents = torch.randn(1, 8, 5)
    for own, text in ((model, None), (catalog.load(painted_model), "wind")):
        assert torch.equal(phases.sound(own, text, latents), own.sound(latents)[0])


def test_what_is_generated_is_asked_about(model: Model, better_by: dict[str, float]) -> None:
    raw = {"normalize": "none", "fade": 0.0}
    better_by["nats"] = 1.0
    wind, dog = finish(generate(model, ["wind", "a dog"], 0.01, [1, 1], **raw))  # type: ignore[arg-type]
    assert bool((wind == 1).all()) and not bool((dog == 1).any())


def test_what_goes_on() -> None:
    assert all(map(phases.goes_on, ("wind", "rain falling", "a crowd cheering", "a helicopter")))
    assert not any(map(phases.goes_on, ("a dog barking", "a gunshot", "a door closing")))
