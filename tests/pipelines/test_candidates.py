"""The best of several: the first is the sound that there was, a scorer or a flow chooses, the batch decides nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from audiogen_cli.errors import InputError
from audiogen_cli.hub import catalog
from audiogen_cli.hub.catalog import Model
from audiogen_cli.models.decoding import finish
from audiogen_cli.models.flow_decoding import answers
from audiogen_cli.pipelines import candidates
from audiogen_cli.pipelines.candidates import answering, best, candidate_seed
from audiogen_cli.pipelines.generate import choose, generate

PROMPTS, SEEDS = ["rain", "a dog barking"], [3, 4]


@pytest.fixture(scope="module")
def model(scored_model: Path) -> Model:
    return catalog.load(scored_model)


def test_the_first_candidate_is_the_sound_itself_and_the_others_are_others() -> None:
    assert candidate_seed(7, 0) == 7
    seeds = [candidate_seed(seed, number) for seed in range(50) for number in range(1, 50)]
    assert len(set(seeds)) == len(seeds) and max(seeds) < 2**63
    assert candidate_seed(7, 1) == candidate_seed(7, 1)


def test_one_candidate_is_what_there_was(model: Model, tiny_model: Path) -> None:
    plain = finish(generate(catalog.load(tiny_model), PROMPTS, 0.5, SEEDS))
    one = finish(generate(model, PROMPTS, 0.5, SEEDS, candidates=1))
    assert all(torch.equal(a, b) for a, b in zip(plain, one, strict=True))


def test_of_all_the_one_with_the_highest_score_is_kept(model: Model) -> None:
    raw = {"normalize": "none", "fade": 0.0}
    [chosen] = finish(choose(model, ["rain"], 0.5, [3], candidates=5, **raw))  # type: ignore[arg-type]
    assert model.clap is not None
    every = [finish(generate(model, ["rain"], 0.5, [candidate_seed(3, k)], **raw))[0] for k in range(5)]  # type: ignore[arg-type]
    scores = [model.clap.score(sound[0], model.text(["rain"])) for sound in every]
    assert chosen.score == pytest.approx(max(scores), abs=1e-6) and len(set(scores)) == 5
    assert torch.equal(chosen.waveform, every[scores.index(max(scores))])


def test_more_candidates_never_score_lower(model: Model) -> None:
    scores = [finish(choose(model, ["rain"], 0.5, [3], candidates=count))[0].score or -2.0 for count in (2, 4, 8)]
    assert scores == sorted(scores)


def test_a_batch_is_its_items_to_the_bit(model: Model) -> None:
    together = finish(choose(model, PROMPTS, 0.5, SEEDS, candidates=3))
    for prompt, seed, chosen in zip(PROMPTS, SEEDS, together, strict=True):
        [alone] = finish(choose(model, [prompt], 0.5, [seed], candidates=3))
        assert alone.score == pytest.approx(chosen.score, abs=1e-6)
        assert torch.equal(alone.waveform, chosen.waveform)


def test_what_is_made_at_a_time_is_always_the_same_of_a_sounds_candidates(model: Model) -> None:
    for count in range(2, 65):
        lanes = candidates.lanes_for(model, count).latents
        assert count % lanes == 0 and (lanes == count or count > 8)
    assert set(candidates.lanes_for(model, 1)) == {model.card.lanes}


def test_without_a_text_there_is_nothing_to_choose_by(model: Model) -> None:
    nothing, rain = finish(choose(model, [None, "rain"], 0.3, [1, 1], candidates=2))
    assert nothing.score is None and rain.score is not None


def test_one_waveform_is_its_own_best(model: Model) -> None:
    assert best(model, "rain", [torch.zeros(1, 800)]).score is None


def test_numbers_that_cannot_be_are_refused(model: Model, tiny_model: Path) -> None:
    for count in (0, 65):
        with pytest.raises(InputError, match="between 1 and 64"):
            finish(generate(model, ["rain"], 0.3, [1], candidates=count))
    with pytest.raises(InputError, match="no scorer and no flow"):
        finish(generate(catalog.load(tiny_model), ["rain"], 0.3, [1], candidates=2))


@pytest.fixture(scope="module")
def painted(painted_model: Path) -> Model:
    return catalog.load(painted_model)


RAW: dict[str, Any] = {"normalize": "none", "fade": 0.0}


def test_without_a_scorer_the_flow_chooses_what_answers_best(painted: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[float] = []

    def listen(*inputs: Any) -> list[float]:
        judged.extend(answers(*inputs))
        return judged

    monkeypatch.setattr(candidates, "answers", listen)
    [chosen] = finish(choose(painted, ["rain"], 0.5, [3], candidates=5, **RAW))
    every = [finish(generate(painted, ["rain"], 0.5, [candidate_seed(3, k)], **RAW))[0] for k in range(5)]
    assert len(set(judged)) == 5 and chosen.score == max(judged)
    assert torch.equal(chosen.waveform, every[judged.index(max(judged))])


def test_a_judge_chooses_in_the_flows_place(judged_model: Path, painted: Model) -> None:
    model = catalog.load(judged_model)
    [chosen] = finish(choose(model, ["rain"], 0.5, [3], candidates=5, **RAW))
    every = [finish(generate(painted, ["rain"], 0.5, [candidate_seed(3, k)], **RAW))[0] for k in range(5)]
    latents = torch.randn(5, 1, 8, 20)
    scene, score = answering(model, ["rain"], latents)
    assert model.judge is not None
    marks = [model.judge.score(model.latents.rough(own)[0], 8000, model.text(["rain"])) for own in latents]
    first = next(k for k, mark in enumerate(marks) if mark >= max(marks) - 0.25)
    assert len(set(marks)) == 5 and score == marks[first] and torch.equal(scene, latents[first])
    assert any(torch.equal(chosen.waveform, sound) for sound in every)


def test_what_is_nearly_as_good_is_as_good(judged_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, latents = catalog.load(judged_model), torch.randn(4, 1, 8, 20)
    for marks, first in (([-3, -0.8, -0.6, -2], 1), ([-3, -1.2, -0.6, -2], 2), ([-3, -1.2, -0.6, -0.4], 2)):
        monkeypatch.setattr(candidates, "_answers", lambda *_, marks=marks: marks)
        scene, score = answering(model, ["rain"], latents)
        assert torch.equal(scene, latents[first]) and score == marks[first]


def test_of_a_batch_the_judge_chooses_as_alone(judged_model: Path) -> None:
    model = catalog.load(judged_model)
    together = finish(choose(model, PROMPTS, 1.7, SEEDS, candidates=3))
    for prompt, seed, chosen in zip(PROMPTS, SEEDS, together, strict=True):
        [alone] = finish(choose(model, [prompt], 1.7, [seed], candidates=3))
        assert alone.score == chosen.score and torch.equal(alone.waveform, chosen.waveform)


def test_a_flow_in_the_place_of_a_language_model_chooses_too(flow_model: Path) -> None:
    flowing = catalog.load(flow_model)
    scores = [finish(choose(flowing, ["rain"], 0.5, [3], candidates=count))[0].score or -99.0 for count in (2, 4, 8)]
    assert scores == sorted(scores)


def test_the_flow_judges_each_sound_of_a_scene_for_itself(painted: Model) -> None:
    prompt, sounds = "footsteps, then a dog barking in rain", ["footsteps", "dog barking", "rain"]
    [chosen] = finish(choose(painted, [prompt], 0.5, [3], candidates=3, layers=True, **RAW))
    items = torch.randn(3, 3, 8, 60)  # three candidates of three sounds, longer than a window
    scene, score = answering(painted, sounds, items)
    heard, flow = [painted.text([sound]) for sound in sounds], painted.flow
    assert flow is not None and chosen.score is not None
    parts = items.split(painted.window_frames, dim=3)
    marks = [
        [sum(answers(flow, part[k, [n]], heard[n])[0] * part.shape[3] for part in parts) / 60 for k in range(3)]
        for n in range(3)
    ]
    best_of = [max(range(3), key=own.__getitem__) for own in marks]
    assert torch.equal(scene, torch.stack([items[k, n] for n, k in enumerate(best_of)]))
    assert score == pytest.approx(sum(map(max, marks)) / 3)


def test_of_a_batch_the_flow_chooses_as_alone(painted: Model) -> None:
    together = finish(choose(painted, PROMPTS, 1.7, SEEDS, candidates=3))
    for prompt, seed, chosen in zip(PROMPTS, SEEDS, together, strict=True):
        [alone] = finish(choose(painted, [prompt], 1.7, [seed], candidates=3))
        assert alone.score == chosen.score and torch.equal(alone.waveform, chosen.waveform)


def test_of_what_goes_on_a_candidate_that_pauses_is_the_last_choice(
    judged_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = catalog.load(judged_model)
    steady = torch.randn(1, 8_000, generator=torch.Generator().manual_seed(0))
    stopping = torch.cat([steady[:, :4_000], torch.zeros(1, 4_000)], dim=1)
    latents, marks = torch.zeros(2, 1, 3, 5), iter([-1.0, -2.0] * 2 + [-1.0, -0.5])

    def told(*waveforms: torch.Tensor) -> None:
        sounds = iter(waveforms)
        monkeypatch.setattr(type(model.latents), "rough", lambda *_: next(sounds), raising=False)

    monkeypatch.setattr(type(model.judge), "score", lambda *_: next(marks))
    told(stopping, steady)
    assert candidates._answers(model, latents[:, 0], model.text(["rain"]), "rain") == [-math.inf, -2.0]
    told(stopping, steady)
    assert candidates._answers(model, latents[:, 0], model.text(["a dog"]), "a dog barking") == [-1.0, -2.0]
    told(stopping, stopping)
    assert candidates._answers(model, latents[:, 0], model.text(["rain"]), "rain") == [-1.0, -0.5]
