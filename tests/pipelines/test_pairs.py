"""Two sounds in one: who is found, and what real mixtures are made of."""

import pytest
import torch

from audiogen_cli.errors import InputError
from audiogen_cli.hub.catalog import SHELVES
from audiogen_cli.models.decoding import finish
from audiogen_cli.pipelines import pairs
from audiogen_cli.pipelines.listening import read_prompts
from audiogen_cli.pipelines.pairs import Pair

BUILD = next(shelf for shelf in SHELVES if (shelf / "build").is_dir()) / "build"


@pytest.fixture
def dog_in_rain(prompts):
    return Pair("dog in rain", prompts[0], prompts[1], following=False)


def test_both_sounds_must_be_found_for_a_pair_to_count(asked, prompts, dog_in_rain):
    alone = Pair("only a dog", prompts[0], prompts[1], following=False)
    other = Pair("rain, then a clock", prompts[1], prompts[3], following=True)
    report = finish(pairs.measure_pairs(asked, [dog_in_rain, alone, other]))
    assert [row.generated for row in report.rows] == [1.0, 0.0, 1.0]
    assert report.mean.generated == pytest.approx(2 / 3)
    assert report.mean.mixed is None and report.mean.mixtures == 0


def test_sounds_that_take_turns_are_found_each_in_its_own_window(asked, dog_in_rain, monkeypatch):
    dog, rain = torch.eye(4)[[0]], torch.eye(4)[[2]]
    both = torch.cat([dog, rain, torch.zeros(8, 4)])  # a tenth of the time each
    others = torch.full((10, 9), 0.3)
    monkeypatch.setattr(type(asked.tagger), "window_scores", lambda self, waveform: torch.cat([both, others], dim=1))
    assert finish(pairs.measure_pairs(asked, [dog_in_rain])).rows[0].generated == 1.0


def test_the_control_judges_by_pairs_without_a_common_class(asked, prompts, dog_in_rain):
    stranger = Pair("puppy and clock", prompts[2], prompts[3], following=False)
    ticking = Pair("a clock", prompts[3], prompts[3], following=False)
    rows = finish(pairs.measure_pairs(asked, [dog_in_rain, stranger, ticking])).rows
    assert rows[0].control == 0.0, "the clock alone is a stranger to dog in rain, and is not heard in it"
    assert rows[1].control is None, "shares Bark with the first and Tick with the last"


def test_mixtures_hold_both_recordings_and_repeat_to_the_bit(asked, dog_in_rain, sounding, take):
    dogs = [take(f"a dog {i}", sounding(1.0, 0.0, 0.0, 0.0)) for i in range(3)]
    rains = [take(f"rain {i}", sounding(0.0, 0.0, 1.0, 0.0)) for i in range(4)]
    mixed = list(pairs.mixtures(dog_in_rain, [*dogs, *rains], 1.0))
    assert len(mixed) == pairs.MIXTURES
    assert all(len(waveform) == 16_000 for waveform in mixed)
    again = pairs.mixtures(dog_in_rain, [*dogs, *rains], 1.0)
    assert all(torch.equal(a, b) for a, b in zip(mixed, again, strict=True))
    assert list(pairs.mixtures(dog_in_rain, dogs, 1.0)) == []


def test_one_recording_is_not_mixed_with_itself(dog_in_rain, sounding, take):
    both = take("a dog in rain", sounding(1.0, 0.0, 1.0, 0.0))
    assert list(pairs.mixtures(dog_in_rain, [both], 1.0)) == []


def test_the_committed_pairs_are_at_least_ten_of_sounds_without_a_common_class():
    prompts = read_prompts(BUILD / "eval_prompts.csv")
    read = pairs.read_pairs(BUILD / "eval_pairs.csv", prompts)
    assert len({pair.text for pair in read}) == len(read) >= 10
    assert {pair.following for pair in read} == {True, False}
    assert all(set(pair.first.classes).isdisjoint(pair.second.classes) for pair in read)


@pytest.mark.parametrize(("line", "words"), [("a,dog,rain,after", "together or then"), ("a,dog,snow,then", "'snow'")])
def test_a_pair_that_cannot_be_judged_is_refused(tmp_path, prompts, line, words):
    (tmp_path / "pairs.csv").write_text(f"prompt,first,second,order\n{line}\n")
    with pytest.raises(InputError, match=words):
        pairs.read_pairs(tmp_path / "pairs.csv", prompts)
