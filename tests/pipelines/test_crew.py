"""Sounds of other processes beside those of this one."""

import pytest
import torch

from audiogen_cli.errors import AudiolmError, InputError
from audiogen_cli.hub import catalog
from audiogen_cli.models.decoding import Sampling, finish
from audiogen_cli.pipelines.crew import Crew
from audiogen_cli.pipelines.generate import generate
from audiogen_cli.pipelines.listening import Setup, mono, round_trip

SAMPLING = Sampling(guidance=2.0, top_k=8)


@pytest.fixture(scope="module")
def entry(tiny_model):
    return catalog.find(tiny_model)


@pytest.fixture(scope="module")
def crew(entry):
    with Crew(entry, 2) as crew:
        yield crew


def test_a_crew_makes_the_sounds_that_this_process_makes(entry, crew):
    model, texts, seeds = catalog.load(entry), [f"text {i}" for i in range(17)], list(range(17))
    parts = list(crew.sounds(texts, seeds, 0.3, SAMPLING, None))
    assert [len(part) for part in parts] == [16, 1]
    own = finish(generate(model, texts, 0.3, seeds, SAMPLING))
    for sound, other in zip(own, [sound for part in parts for sound in part], strict=True):
        torch.testing.assert_close(mono(sound, model.sample_rate), other)


def test_a_crew_hears_through_the_codec_what_this_process_hears(entry, crew):
    model, waveform = catalog.load(entry), 0.1 * torch.randn(4_000)
    made, frames = crew.coded(waveform)
    own, own_frames = round_trip(model.codec, waveform, model.frames, model.sound)
    torch.testing.assert_close(own, made)
    assert torch.equal(own_frames, frames)


def test_an_evaluation_asks_its_crew_and_nothing_twice(entry, crew, monkeypatch):
    setup = Setup(catalog.load(entry), None, 2, 0.3, SAMPLING, crew=crew)  # type: ignore[arg-type]
    first = finish(setup.answers(["one", "two"], "generating"))
    assert len(first) == 4 and not torch.equal(first[0], first[1])
    monkeypatch.setattr(crew, "sounds", None)
    assert torch.equal(finish(setup.sounds(["two"], [1], "answering"))[0], first[3])
    assert setup.coded(first[0])[0].shape == first[0].shape


def test_what_is_wrong_in_another_process_is_said_in_this_one(crew):
    with pytest.raises(InputError, match="length must be positive"):
        list(crew.sounds(["text"], [0], 0.0, SAMPLING, None))


def test_a_process_that_was_ended_is_one_sentence(entry):
    with Crew(entry, 1) as crew:
        list(crew.sounds(["text"], [0], 0.3, SAMPLING, None))
        [process] = crew._pool._processes.values()
        process.kill()
        with pytest.raises(AudiolmError, match="use fewer --jobs"):
            crew.coded(0.1 * torch.randn(4_000))
