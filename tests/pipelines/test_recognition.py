"""Shares of recognised sounds: the arithmetic."""

import pytest
import torch

from audiogen_cli.pipelines import listening, recognition
from audiogen_cli.pipelines.recognition import Listener, Trial


def trial(index, kind, *hits):
    return Trial(index, kind, torch.tensor(hits, dtype=torch.bool))


def table(prompts, trials):
    return recognition.table(prompts, trials, listening.strangers([prompt.classes for prompt in prompts]))


def test_shares_count_hits_on_the_prompts_own_classes_and_the_control_on_the_strangers(prompts):
    trials = [
        trial(0, "generated", 1, 0, 1, 0),
        trial(0, "generated", 1, 1, 1, 0),
        trial(1, "generated", 1, 0, 1, 1),
        trial(0, "placed", 0, 0, 0, 0),
        trial(0, "placed", 1, 0, 0, 0),
        trial(0, "trained", 1, 0, 0, 0),
    ]
    dog, rain, puppy, _ = table(prompts, trials)
    assert dog.generated == 1.0
    assert dog.control == 1 / 4, "rain once in two sounds, clock never; puppy does not count"
    assert (rain.generated, rain.control) == (0.0, 1.0)
    assert (dog.placed, dog.clips) == (0.5, 2)
    assert (dog.all_placed, dog.all_clips) == (pytest.approx(2 / 3), 3)
    assert (puppy.generated, puppy.placed, puppy.control) == (None, None, None)


def test_the_mean_counts_every_prompt_the_same_and_leaves_out_what_was_not_heard(prompts):
    trials = [trial(0, "generated", 1, 0, 0, 0), *[trial(1, "generated", 0, 0, 0, 0)] * 9]
    mean = recognition.mean_row(table(prompts, trials))
    assert mean.generated == 0.5
    assert mean.placed is None


def test_a_listener_hears_each_prompts_classes(asked, prompts, sounding):
    listener = Listener(asked, prompts)
    assert listener.hits(sounding(0.0, 0.7, 0.0, 0.3)).tolist() == [True, False, True, False], "nine others score 0.4"
    trials = listener.generated([sounding(1.0, 0.0, 0.0, 0.0)] * 8)
    assert [trial.prompt for trial in trials] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_held_out_recording_is_heard_in_three_ways_by_the_prompts_that_its_caption_fits(
    asked, prompts, sounding, take
):
    listener = Listener(asked, prompts)
    rain = sounding(0.0, 0.0, 1.0, 0.0)
    assert listener.trials(take("a bird", rain)) == []
    held_out = listener.trials(take("dog in rain", rain))
    assert [(trial.prompt, trial.kind) for trial in held_out] == [
        (index, kind) for index in (0, 1) for kind in ("placed", "coded", "as_is")
    ]
    assert all(trial.hits[1] for trial in held_out)
    assert [trial.kind for trial in listener.trials(take("rain", rain, held_out=False))] == ["trained"]
