"""The whole evaluation with a tagger that hears whatever the test says; its parts have tests of their own."""

import re

import pytest
import torch

from audiogen_cli.config import to_dict
from audiogen_cli.data import audio
from audiogen_cli.errors import InputError
from audiogen_cli.hub import catalog
from audiogen_cli.models.decoding import finish
from audiogen_cli.pipelines import evaluate, scorecard
from audiogen_cli.pipelines.evaluate import Extent
from audiogen_cli.pipelines.listening import Prompt, Recording
from audiogen_cli.pipelines.pairs import Pair
from audiogen_cli.pipelines.paraphrases import Paraphrase


@pytest.fixture
def recordings(tmp_path):
    """Six held-out ones of rain and a dog, and two others."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for index, caption in enumerate(["rain", "a dog"] * 4):
        audio.write(tmp_path / f"{index}.wav", 0.1 * torch.randn(1, 16_000, generator=generator), 16_000)
        made.append(Recording(tmp_path / f"{index}.wav", caption, held_out=index < 6))
    return made


def test_the_whole_evaluation_is_deterministic_and_becomes_tables(asked, prompts, recordings, tmp_path):
    dog, rain, _, _ = prompts
    pairs, words = [Pair("dog in rain", dog, rain, False)], [Paraphrase("rain shower", rain, heard=True)]

    def run(folder):
        extent = Extent(pairs, words, clips=6, sheets=tmp_path / folder)
        return finish(evaluate.evaluate(asked.model, asked.tagger, prompts, recordings, 2, 1.0, extent=extent))

    report = run("one")
    assert [row.generated for row in report.rows] == [1.0] * 4
    assert [row.clips for row in report.rows] == [3, 3, 0, 0]
    assert report.pairs.rows[0].mixtures == 4
    assert report.paraphrases.heard.relative == 1.0 and report.paraphrases.unseen is None
    assert report.likeness.frechet.sounds == 6
    assert report.likeness.nearest.trained == 2
    assert report.likeness.variety.generated == pytest.approx(0.0)
    assert [flaws.sounds for flaws in report.cleanliness] == [8 + 6, 6, 6, 6]
    assert report.codec.si_snr_db > 10
    assert len(list((tmp_path / "one").glob("*.png"))) == len(prompts)
    assert to_dict(report) == to_dict(run("two"))
    assert "| mean of 4 prompts |" in scorecard.markdown(report)


def test_only_so_many_held_out_recordings_of_a_prompt_are_decoded(asked, prompts, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "CODED", 2)
    captions = ["rain"] * 5 + ["a dog", "a cat", "a cat", "a cat"]  # no prompt asks for a cat
    for index in range(len(captions)):
        audio.write(tmp_path / f"{index}.wav", 0.05 * torch.randn(1, 8_000), 16_000)
    recordings = [Recording(tmp_path / f"{i}.wav", caption, held_out=i != 0) for i, caption in enumerate(captions)]
    for clips, coded in ((4, 2 + 1 + 2), (7, 7), (9, 8)):
        extent = Extent(clips=clips)
        report = finish(evaluate.evaluate(asked.model, asked.tagger, prompts, recordings, 1, 1.0, extent=extent))
        assert report.codec.clips == coded and report.likeness.frechet.sounds == min(clips, coded)
        assert [(row.clips, row.all_clips) for row in report.rows[:2]] == [(1, 1), (4, 5)]


def test_without_recordings_the_model_alone_is_measured(asked, prompts):
    report = finish(evaluate.evaluate(asked.model, asked.tagger, prompts, num_seeds=2, seconds=1.0))
    assert [flaws.name for flaws in report.cleanliness] == ["generated"]
    alike = report.likeness
    parts = (report.codec, alike.frechet, alike.nearest, report.pairs, report.paraphrases, alike.variety.real)
    assert parts == (None,) * 6


def test_a_real_model_at_another_rate_is_evaluated_too(asked, tiny_model, tmp_path):
    audio.write(tmp_path / "dog.wav", 0.1 * torch.randn(1, 4_410), 44_100)
    recordings = [Recording(tmp_path / "dog.wav", "a dog", held_out=True)]
    prompts = [Prompt(text, classes, re.compile(text)) for text, classes in (("dog", ("Dog",)), ("rain", ("Rain",)))]
    model = catalog.load(tiny_model)
    report = finish(evaluate.evaluate(model, asked.tagger, prompts, recordings, num_seeds=1, seconds=0.2))
    assert report.cleanliness[0].sounds == 2
    assert len(report.codec.used) == model.lm.config.num_codebooks
    assert report.rows[0].coded is not None


def test_a_flow_has_latents_and_no_codes_to_count(asked, flow_model, tmp_path):
    audio.write(tmp_path / "dog.wav", 0.1 * torch.randn(1, 8_000), 8_000)
    recordings = [Recording(tmp_path / "dog.wav", "a dog", held_out=True)]
    prompts = [Prompt("dog", ("Dog",), re.compile("dog"))]
    report = finish(
        evaluate.evaluate(catalog.load(flow_model), asked.tagger, prompts, recordings, num_seeds=1, seconds=0.2)
    )
    assert report.codec.kbps is None and report.codec.used == () and report.rows[0].coded is not None
    assert "Codec without quantization on 1 held-out" in scorecard.markdown(report)


def test_prompts_must_be_there_and_their_classes_known(asked):
    with pytest.raises(InputError, match="no prompts"):
        finish(evaluate.evaluate(asked.model, asked.tagger, []))
