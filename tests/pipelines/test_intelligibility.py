"""Rows of words that a listener hears, with a listener that knows each recording by its level."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from audiogen_cli.data import audio, manifest
from audiogen_cli.data.manifest import Clip
from audiogen_cli.errors import InputError
from audiogen_cli.hub.codecs import NamedCodec
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.decoding import Sampling, finish
from audiogen_cli.pipelines.intelligibility import Transcribed, Voice, choose, counts_of, evaluate
from audiogen_cli.pipelines.speak import Request, Spoken

RATE = 16_000
TEXTS = ("good morning", "rain", "how are you")


class Knows:
    """Hears text i in a sound whose mean is (i + 1) / 10."""

    hash = "abc"

    def hears(self, waveform: Tensor) -> str:
        number = round(float(waveform.mean()) * 10) - 1
        return TEXTS[number] if 0 <= number < len(TEXTS) else ""


class Quieter(Codec):
    """Of one codebook a third of the level is left."""

    sample_rate, channels, hop_length, num_codebooks, codebook_size = RATE, 1, 1, 2, 256

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def encode(self, waveform: Tensor, num_codebooks: int | None = None) -> Tensor:
        count = num_codebooks or 2
        return (waveform * 100 * count).round().long().repeat(1, count, 1)

    def decode(self, codes: Tensor) -> Tensor:
        return codes[:, :1] / (200 if codes.shape[1] == 2 else 300)


@pytest.fixture
def recordings(tmp_path: Path) -> list[Transcribed]:
    found = []
    for number, text in enumerate(TEXTS):
        audio.write(tmp_path / f"{number}.wav", torch.full((1, RATE), (number + 1) / 10), RATE)
        found.append(Transcribed(tmp_path / f"{number}.wav", text, text.upper()))
    return found


class Says:
    """A speaker whose sound is that of the text it is asked to say; `spoken` notes what it was asked."""

    sample_rate, codec = RATE, SimpleNamespace(channels=1)

    def __init__(self, trouble: str = "") -> None:
        self.trouble, self.spoken = trouble, list[Request]()

    def speak(self, request: Request) -> Any:
        self.spoken.append(request)
        yield None
        level = (TEXTS.index(request.text.lower()) + 1) / 10
        return Spoken(torch.full((1, RATE // 2), level), self.trouble, 1)


def test_every_row_counts_the_words_of_all_texts(recordings: list[Transcribed]) -> None:
    named = NamedCodec("quieter", Quieter(), Path())
    steps = evaluate(Knows(), recordings, named, counts_of(named))
    plain, one, two = finish(steps)
    assert counts_of(named) == [1, 2]
    assert (plain.name, plain.sounds, plain.seconds) == ("recordings", 3, 3.0)
    assert (plain.words.rate, plain.letters.rate, plain.silent, plain.unfinished) == (0.0, 0.0, 0.0, None)
    assert plain.words.said == 6 and plain.other.rate == pytest.approx(8 / 6)
    assert one.name == "quieter, 1 codebooks (128.00 kbps)" and two.words.rate == 0.0
    assert one.words.rate == pytest.approx(7 / 6), "the first is not heard, the others are taken for it"
    assert one.silent == pytest.approx(1 / 3)
    assert plain.examples[1] == ("rain", "rain")


def test_texts_are_said_as_a_model_reads_them_and_trouble_is_counted(recordings: list[Transcribed]) -> None:
    speaker: Any = Says("it had no end")
    row = finish(evaluate(Knows(), recordings, voice=Voice(speaker, Sampling(), seed=7)))[-1]
    assert (row.name, row.words.rate, row.unfinished, row.seconds) == ("said", 0.0, 1.0, 1.5)
    assert [request.text for request in speaker.spoken] == [text.upper() for text in TEXTS]
    assert [request.seed for request in speaker.spoken] == [7, 8, 9]
    assert all(request.voice is None for request in speaker.spoken)


def test_a_voice_is_another_recording_with_its_own_transcript(recordings: list[Transcribed]) -> None:
    speaker: Any = Says()
    row = finish(evaluate(Knows(), recordings, voice=Voice(speaker, Sampling(), own=True)))[-1]
    assert row.name == "said in another recording's voice" and row.unfinished == 0.0
    assert [request.transcript for request in speaker.spoken] == ["HOW ARE YOU", "GOOD MORNING", "RAIN"]
    levels = [round(float(request.voice.mean()), 2) for request in speaker.spoken if request.voice is not None]
    assert levels == [0.3, 0.1, 0.2]


def test_held_out_recordings_are_chosen_one_of_each_text(tmp_path: Path, recordings: list[Transcribed]) -> None:
    paths = [str(one.path) for one in recordings]
    clips = [
        Clip(paths[0], "G UH D", 1.0, "ann", split="valid", other_captions=("Good!",)),
        Clip(paths[1], "good", 1.0, "ann", split="valid"),
        Clip(paths[2], "how are you", 1.0, "bob", split="valid"),
        Clip(paths[2], "never", 1.0, "bob", split="train"),
    ]
    manifest.write(tmp_path / "manifest.jsonl", clips)
    found = choose(tmp_path)
    assert sorted(one.words for one in found) in (["Good!", "how are you"], ["good", "how are you"])
    assert {one.symbols for one in found} <= {"G UH D", "good", "how are you"}
    assert choose(tmp_path) == found
    for more in ({"source": "bob"}, {"shortest": 2.0}, {"clips": 1}):
        with pytest.raises(InputError, match="fewer than 2"):
            choose(tmp_path, **more)  # type: ignore[arg-type]


def test_a_plain_folder_needs_a_list_or_sidecars(tmp_path: Path, recordings: list[Transcribed]) -> None:
    (tmp_path / "list.csv").write_text("file,text\n0.wav,G UH D\n0.wav,good\n1.wav,rain\n")
    assert {(one.symbols, one.words) for one in choose(tmp_path, tmp_path / "list.csv")} == {
        ("G UH D", "good"),
        ("rain", "rain"),
    }
