"""Prompts, recordings, and how they come before the tagger."""

import itertools

import pytest
import torch

from audiogen_cli.data import audio, manifest
from audiogen_cli.data.manifest import Clip
from audiogen_cli.data.segments import active_rms
from audiogen_cli.errors import InputError
from audiogen_cli.hub.catalog import SHELVES
from audiogen_cli.models.decoding import finish
from audiogen_cli.pipelines import listening
from audiogen_cli.pipelines.listening import Recording

HEADER = "prompt,classes,caption"


def test_the_control_never_pairs_prompts_that_share_a_class(prompts):
    pairs = listening.strangers([prompt.classes for prompt in prompts])
    assert not pairs.diagonal().any()
    assert torch.equal(pairs, pairs.T)
    assert not pairs[0, 2]
    assert pairs[0, 1] and pairs[0, 3] and pairs[1, 2]


def test_texts_that_are_heard_alike_are_made_once(asked, monkeypatch):
    generate, made = listening.generate, []

    def counting(model, prompts, seconds, seeds, *args, **kwargs):
        made.extend(zip(prompts, seeds, strict=True))
        return generate(model, prompts, seconds, seeds, *args, **kwargs)

    monkeypatch.setattr(listening, "generate", counting)
    texts = ["puppy", "a whelp", "dog", "a puppy", "dog"]
    sounds = finish(asked.answers(texts, "generating"))
    assert len(sounds) == 10 and len(made) == 6
    apart = [finish(asked.answers([text], "generating")) for text in texts]
    assert all(torch.equal(one, other) for one, other in zip(sounds, itertools.chain(*apart), strict=True))


def test_placed_recordings_have_the_length_and_level_asked_for_and_repeat_to_the_bit(tmp_path):
    waveform = torch.randn(4_000, generator=torch.Generator().manual_seed(0)) * 0.01
    recording = Recording(tmp_path / "a.wav", "a dog barking", held_out=True)
    placed = listening.placed(waveform, recording, seconds=2.0)
    assert len(placed) == 32_000
    assert 20 * torch.tensor(active_rms(placed.numpy(), 16_000)).log10() == pytest.approx(-26.0, abs=0.1)
    assert torch.equal(placed, listening.placed(waveform, recording, seconds=2.0))


def test_the_validation_split_of_a_prepared_folder_is_held_out(tmp_path):
    clips = [Clip("a.wav", "a dog", 1.0, "one"), Clip("b.wav", "rain", 1.0, "two", split="valid")]
    manifest.write(tmp_path / manifest.NAME, clips)
    recordings = listening.read_recordings(tmp_path)
    assert [(r.path.name, r.caption, r.held_out) for r in recordings] == [
        ("a.wav", "a dog", False),
        ("b.wav", "rain", True),
    ]


def test_tiers_that_were_not_trained_on_are_held_out_but_for_known_sources(tmp_path):
    clips = [Clip("a.wav", "a dog", 1.0, "one", tier="A"), Clip("b.wav", "rain", 1.0, "two", split="valid", tier="A")]
    clips += [Clip("c.wav", "wind", 1.0, "one", tier="B"), Clip("d.wav", "sea", 1.0, "three", tier="B")]
    manifest.write(tmp_path / manifest.NAME, clips)
    recordings = listening.read_recordings(tmp_path, ["A"])
    assert {r.path.name: r.held_out for r in recordings} == {"a.wav": False, "b.wav": True, "d.wav": True}
    assert [r.path.name for r in listening.read_recordings(tmp_path, ["A", "B"]) if r.held_out] == ["b.wav"]
    with pytest.raises(InputError, match="no clips of tier C"):
        listening.read_recordings(tmp_path, ["A", "C"])


@pytest.mark.parametrize("text", ["words\na dog\n", f"{HEADER}\na dog,Dog,(\n", f"{HEADER}\na\n"])
def test_a_file_that_holds_no_prompts_is_refused(tmp_path, text):
    (tmp_path / "prompts.csv").write_text(text)
    with pytest.raises(InputError, match="prompt, classes and caption"):
        listening.read_prompts(tmp_path / "prompts.csv")
    with pytest.raises(InputError, match="prompts"):
        listening.read_prompts(tmp_path / "missing.csv")


def test_the_committed_prompts_are_many_distinct_and_each_has_strangers():
    path = next(shelf for shelf in SHELVES if (shelf / "build").is_dir()) / "build" / "eval_prompts.csv"
    prompts = listening.read_prompts(path)
    assert len({prompt.text for prompt in prompts}) == len(prompts) >= 30
    assert listening.strangers([prompt.classes for prompt in prompts]).any(dim=1).all()
    assert all(prompt.caption.search(prompt.text) for prompt in prompts)


def test_a_prompt_is_found_by_its_text(prompts):
    assert listening.named(prompts, "rain") is prompts[1]
    with pytest.raises(InputError, match="no prompt 'rian'"):
        listening.named(prompts, "rian")


def test_every_text_is_asked_for_with_every_seed(asked, sounding):
    sounds = finish(asked.answers(["dog", "rain"], "generating"))
    assert len(sounds) == 4
    assert torch.equal(sounds[1], sounding(1.0, 0.0, 0.0, 0.0)) and torch.equal(sounds[2], sounding(0.0, 0.0, 1.0, 0.0))


def test_sounds_are_judged_as_they_are_written(asked, monkeypatch):
    generate, ways = listening.generate, []

    def noting(*args, **kwargs):
        ways.append((args[5:], kwargs))
        return generate(*args, **kwargs)

    monkeypatch.setattr(listening, "generate", noting)
    finish(asked.answers(["dog"], "generating"))
    assert ways == [((), {"candidates": None})]  # loudness and fades are those of `audiolm generate`


def test_a_recording_goes_through_the_codec_where_asked(asked, tmp_path):
    audio.write(tmp_path / "a.wav", 0.1 * torch.randn(1, 4_410), 44_100)
    for coded in (True, False):
        take = asked.take(Recording(tmp_path / "a.wav", "a dog", True), coded)
        assert len(take.waveform) == 1_600 and len(take.example) == 16_000
        assert (take.coded is not None) == (take.frames is not None) == coded


def test_nothing_has_neither_share_nor_mean():
    assert listening.share([]) is None and listening.mean([None]) is None
    assert listening.share([torch.tensor([True, False])]) == listening.mean([0.0, None, 1.0]) == 0.5
