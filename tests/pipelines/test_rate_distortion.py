"""The same recordings through every coder: rates are counted, scores are those of what came back."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from audiogen_cli.data import audio, manifest
from audiogen_cli.errors import AudioError, InputError
from audiogen_cli.hub import codecs
from audiogen_cli.hub.codecs import NamedCodec
from audiogen_cli.metrics.similarity import mel_distance, si_snr
from audiogen_cli.models.entropy import EntropyLM, EntropyLMConfig
from audiogen_cli.pipelines import entropy, rate_distortion
from audiogen_cli.pipelines.rate_distortion import Neural, Report, Stream

RATE = 8_000


@pytest.fixture
def codec(tiny_model: Path) -> NamedCodec:
    """50 frames a second, 4 codebooks of 16: 0.2 kbps each."""
    return codecs.load(str(tiny_model))


@pytest.fixture
def recordings(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / name for name in ("one.wav", "two.wav")]
    for seed, path in enumerate(paths):
        audio.write(path, noise(round(RATE * (0.5 + 0.25 * seed)), seed), RATE, "float")
    return paths


def noise(length: int, seed: int = 0) -> Tensor:
    return torch.randn(1, length, generator=torch.Generator().manual_seed(seed)) * 0.1


def finished(steps: Generator[Any, None, Report]) -> Report:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            report: Report = stop.value
            return report


class Louder:
    """Gives back the sound, and a sample more, at another rate and with more channels; 100 bits a clip."""

    name, sample_rate, channels = "louder", 16_000, 2

    def __init__(self) -> None:
        self.given: list[Tensor] = []

    def encode(self, waveform: Tensor) -> Stream:
        self.given.append(waveform)
        return Stream(waveform, 100)

    def decode(self, stream: Stream) -> Tensor:
        return torch.nn.functional.pad(2 * stream.content, (0, 1))

    def coded_bits(self, stream: Stream) -> int | None:
        return stream.bits // 2


def test_a_coder_of_another_shape_is_given_its_own_and_scored_at_the_reference(
    codec: NamedCodec, recordings: list[Path]
) -> None:
    coder = Louder()
    report = finished(rate_distortion.evaluate(codec, [coder], recordings, listen=False))
    assert [given.shape for given in coder.given] == [(2, 8_000), (2, 12_000)]
    assert (report.clips, report.seconds, report.sample_rate) == (2, 1.25, RATE)
    [row] = report.rows
    assert row.kbps == pytest.approx(0.16) and row.coded_kbps == pytest.approx(0.08)
    assert row.scores["si_snr"] is not None and row.scores["si_snr"] > 10  # noise resampled: its last band goes
    assert row.scores["mel_distance"] == pytest.approx(0.301, abs=0.1)  # log10 of 2
    assert row.encode_pace > 0 and row.decode_pace > 0


def test_a_codec_is_scored_on_what_encode_and_decode_give(codec: NamedCodec, recordings: list[Path]) -> None:
    report = finished(rate_distortion.evaluate(codec, [Neural(codec, 0.4)], recordings, listen=False))
    [row] = report.rows
    pairs = []
    for path in recordings:
        waveform = audio.read(path).waveform
        with torch.no_grad():
            decoded = codec.codec.decode(codec.codec.encode(waveform[None], 2))[0]
        pairs.append((waveform, decoded[:, : waveform.shape[1]]))
    assert row.scores["si_snr"] == pytest.approx(sum(float(si_snr(*pair)) for pair in pairs) / 2, abs=1e-3)
    assert row.scores["mel_distance"] == pytest.approx(
        sum(float(mel_distance(*pair, RATE)) for pair in pairs) / 2, abs=1e-3
    )
    frames = [25, 38]  # of 0.5 s, and of 0.75 s with the last one completed
    assert row.kbps == pytest.approx(sum(frames) * 2 * 4 / 1.25 / 1000)
    assert row.coded_kbps is None


def test_entropy_coding_is_counted_in_bytes_that_can_be_read_back(codec: NamedCodec) -> None:
    lm = EntropyLM(EntropyLMConfig(num_codebooks=4, codebook_size=16, dim=16, num_layers=1, num_heads=2)).eval()
    for head in lm.heads:
        head.bias.data[:] = -20.0
        head.bias.data[3] = 20.0  # sure that every code is a 3
    coder = Neural(codec, 0.8, entropy.exact(lm))
    [segment] = coder.encode(noise(RATE)).content
    expected = Stream([segment._replace(codes=[torch.full((1, 4, 50), 3)])], 800)
    assert (coder.coded_bits(expected) or 0) < 80
    surprising = Stream([segment._replace(codes=[torch.full((1, 4, 50), 4)])], 800)
    assert (coder.coded_bits(surprising) or 0) > 800


def test_rates_are_the_codecs_own(codec: NamedCodec) -> None:
    assert rate_distortion.default_kbps(codec) == pytest.approx([0.2, 0.4, 0.6, 0.8])
    with pytest.raises(InputError, match="--kbps"):
        Neural(codec, 5.0)


def test_the_choice_is_the_same_every_time_and_keeps_to_lengths_and_split(
    recordings: list[Path], tmp_path: Path
) -> None:
    choose = rate_distortion.choose
    assert sorted(choose(tmp_path, 9, 0.1, 9)) == sorted(recordings)
    assert choose(tmp_path, 1, 0.1, 9) == choose(tmp_path, 2, 0.1, 9)[:1]
    assert choose(tmp_path, 9, 0.6, 9) == recordings[1:] and choose(tmp_path, 9, 0.1, 0.6) == recordings[:1]
    assert choose(tmp_path, 9, 0.1, 9, "one") == recordings[:1]
    clips = [
        manifest.Clip(str(recordings[0]), "", 0.5, "first", split="train"),
        manifest.Clip(str(recordings[1]), "", 0.75, "second", split="valid"),
    ]
    manifest.write(tmp_path / manifest.NAME, clips)
    assert choose(tmp_path, 9, 0.1, 9) == recordings[1:]
    with pytest.raises(InputError, match="no recordings"):
        choose(tmp_path, 9, 0.1, 9, "first")


def test_what_is_no_recording_is_an_error(codec: NamedCodec, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no recordings"):
        rate_distortion.choose(tmp_path, 9, 0.1, 9)
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    with pytest.raises(AudioError, match=r"bad\.wav"):
        rate_distortion.choose(tmp_path, 9, 0.1, 9)


def test_a_sound_that_cannot_be_scored_is_left_out_of_the_mean(
    codec: NamedCodec, recordings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([1.0, float("nan"), float("nan"), float("nan")])
    monkeypatch.setattr(rate_distortion, "scores", lambda listen: {"stoi": lambda *heard: next(values)})
    report = finished(rate_distortion.evaluate(codec, [Louder(), Louder()], recordings))
    assert [row.scores for row in report.rows] == [{"stoi": 1.0}, {"stoi": None}]
