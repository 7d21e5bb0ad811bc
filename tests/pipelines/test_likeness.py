"""Sets of sounds beside sets of recordings."""

import pytest
import torch

from audiogen_cli.models.decoding import finish
from audiogen_cli.pipelines import likeness
from audiogen_cli.pipelines.likeness import Embedded


def embedded(caption, windows, held_out=True, coded=None):
    return Embedded(caption, held_out, windows, coded)


@pytest.fixture
def real():
    generator = torch.Generator().manual_seed(0)
    windows = torch.rand(20, 12, 4, generator=generator)
    return [embedded(f"sound {i}", window, coded=window + 0.5) for i, window in enumerate(windows)]


def test_a_shift_adds_its_square_and_the_recordings_themselves_are_no_distance_away(real):
    report = likeness.measure_frechet(real, [recording.windows for recording in real])
    assert report.sounds == 20
    assert report.generated == pytest.approx(0.0, abs=1e-9)
    assert report.coded == pytest.approx(4 * 0.5**2)


def test_the_columns_of_halves_compare_different_recordings(real):
    report = likeness.measure_frechet(real, [recording.windows for recording in real])
    assert report.generated_half == report.real_half > 0
    assert report.coded_half > report.real_half


def test_the_held_out_recordings_are_chosen_evenly_and_always_the_same(real):
    others = [embedded("trained", torch.ones(1, 4), held_out=False)]
    chosen = likeness.chosen(real + others, 5)
    assert sorted(r.caption for r in chosen) == sorted(f"sound {i}" for i in (2, 6, 10, 14, 18))
    assert [r.caption for r in chosen] == [r.caption for r in likeness.chosen(others + real, 5)]
    assert len(likeness.chosen(real, 500)) == 20
    assert likeness.chosen(others, 5) == []


def test_the_seeds_of_a_prompt_vary_beside_its_recordings(prompts):
    kinds = torch.eye(4)
    recordings = [embedded("a dog", kinds[[0]]), embedded("dog", kinds[[1]]), embedded("rain", kinds[[2]])]
    seeds = [torch.stack([kinds[0], kinds[0]])] * 4
    report = likeness.measure_variety(prompts, seeds, recordings)
    assert [(row.generated, row.real, row.clips) for row in report.rows] == [
        (0.0, pytest.approx(1.0), 2),
        (0.0, None, 1),
        (0.0, None, 0),
        (0.0, None, 0),
    ]
    assert (report.prompts, report.generated, report.real) == (1, 0.0, pytest.approx(1.0))
    assert likeness.measure_variety(prompts, [torch.ones(1, 4)] * 4, recordings).generated is None


def test_copies_of_training_clips_are_found():
    kinds = torch.eye(4)
    trained = [embedded("a", kinds[[0]], held_out=False), embedded("b", kinds[[1]], held_out=False)]
    held_out = [embedded("c", torch.tensor([[1.0, 0.0, 1.0, 0.0]])), embedded("d", kinds[[3]])]
    report = likeness.measure_nearest(torch.stack([kinds[0], kinds[2]]), trained + held_out)
    assert (report.trained, report.near_copies) == (2, 0.5)
    assert (report.generated[0], report.generated[2]) == (0.0, 0.5)
    assert report.held_out[0] == pytest.approx(1 - 0.5**0.5)
    assert likeness.measure_nearest(kinds, held_out) is None
    assert likeness.measure_nearest(kinds, trained) is None


def test_of_a_training_clip_only_the_centre_is_kept(asked, sounding, take):
    waveform = sounding(0.5, 0.5, 0.0, 0.0)
    held_out = likeness.embed(asked, take("dog", waveform))
    trained = likeness.embed(asked, take("dog", waveform, held_out=False))
    assert held_out.coded is not None and trained.coded is None
    assert torch.allclose(held_out.centre, trained.windows[0])


def test_each_held_out_caption_is_answered_once(asked, prompts, sounding):
    sounds = [sounding(1.0, 0.0, 0.0, 0.0)] * 2 * len(prompts)
    recordings = [embedded(text, torch.rand(3, 4), coded=torch.rand(3, 4)) for text in ("dog", "rain", "dog", "clock")]
    report, answers = finish(likeness.measure_likeness(asked, prompts, sounds, recordings, clips=500))
    heard = torch.stack([asked.tagger.embeddings(answer)[0] for answer in answers]).sum(dim=0)
    assert heard.tolist() == [2.0, 0.0, 1.0, 1.0]
    assert report.frechet.sounds == 4 and report.nearest is None
    report, answers = finish(likeness.measure_likeness(asked, prompts, sounds, recordings, clips=3))
    assert report.frechet is None and answers == []
