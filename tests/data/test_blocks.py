import io

import numpy as np
import pytest
import soundfile
import torch

from audiogen_cli.data import audio, blocks
from audiogen_cli.errors import AudioError, OutputError


def noise(length, channels=1, seed=0):
    return torch.randn(channels, length, generator=torch.Generator().manual_seed(seed)) * 0.2


def joined(path, sample_rate, channels):
    with blocks.reading(path, sample_rate, channels) as sound:
        return torch.cat(list(sound), dim=1), sound


@pytest.mark.parametrize(("source", "target"), [(44_100, 16_000), (16_000, 24_000), (8_000, 48_000), (16_000, 16_000)])
@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_blocks_joined_are_the_whole_file_resampled_and_remixed(tmp_path, monkeypatch, source, target, before, after):
    monkeypatch.setattr(blocks, "BLOCK", 1000)
    audio.write(tmp_path / "a.wav", noise(12_345, before), source, "float")
    whole = audio.read(tmp_path / "a.wav", target, after).waveform
    found, sound = joined(tmp_path / "a.wav", target, after)
    assert found.shape == whole.shape
    torch.testing.assert_close(found, whole, atol=2e-6, rtol=0)
    assert (sound.rate, sound.channels, sound.length, sound.seconds) == (source, before, 12_345, 12_345 / source)


def test_a_file_object_is_read_as_a_path_is(tmp_path):
    for name in ("a.wav", "a.flac", "a.ogg"):
        audio.write(tmp_path / name, noise(5000), 16_000)
        with open(tmp_path / name, "rb") as file, blocks.reading(file, 16_000, 1) as sound:
            assert torch.equal(torch.cat(list(sound), dim=1), audio.read(tmp_path / name).waveform)


def test_what_cannot_be_read_is_one_sentence(tmp_path):
    (tmp_path / "text.wav").write_text("this is no sound, really not")
    audio.write(tmp_path / "empty.wav", torch.zeros(1, 0), 16_000)
    bad = noise(100_000)
    bad[0, 90_000] = float("nan")
    audio.write(tmp_path / "nan.wav", bad, 16_000, "float")
    for name, words in {"text.wav": "not a sound file", "empty.wav": "0 samples", "nan.wav": "not numbers"}.items():
        with pytest.raises(AudioError, match=words):
            joined(tmp_path / name, 16_000, 1)
    for data, words in ((b"", "stdin is an empty file"), (b"no sound at all", "stdin is not a sound file")):
        with pytest.raises(AudioError, match=words):
            joined(io.BytesIO(data), 16_000, 1)


@pytest.mark.parametrize(
    ("kind", "depth"), [("wav", "16"), ("wav", "24"), ("wav", "float"), ("flac", "16"), ("flac", "24")]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_written_in_blocks_is_written_at_once(tmp_path, kind, depth, channels):
    sound = noise(1001, channels) * 4
    with open(tmp_path / "a", "w+b") as file:
        writer = blocks.BlockWriter(file, 1001, channels, 16_000, depth, kind)
        for part in sound.split(77, dim=1):
            writer.write(part)
        writer.finish()
    audio.write(tmp_path / f"b.{kind}", sound, 16_000, depth)
    back, _ = soundfile.read(tmp_path / "a", dtype="float32", always_2d=True)
    assert np.array_equal(back.T, audio.read(tmp_path / f"b.{kind}").waveform.numpy())
    if kind == "wav":
        assert (tmp_path / "a").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_flac_says_what_it_cannot_hold():
    for channels, depth, words in ((1, "float", "--bit-depth 24"), (12, "16", "12 channels")):
        with pytest.raises(OutputError, match=words):
            blocks.BlockWriter(io.BytesIO(), 10, channels, 16_000, depth, "flac")


@pytest.mark.parametrize("length", [0, 5, 10, 14, 200_000])
def test_fitting_cuts_or_completes_with_silence(length):
    parts = [torch.ones(2, 10), torch.ones(2, 0), torch.ones(2, 4)]
    found = torch.cat(list(blocks.fitted(parts, length)), dim=1)
    assert found.shape == (2, length) and found[0].sum() == min(length, 14)


@pytest.mark.parametrize("length", [2**31 - 100, 2**31 + 1, 2**34])
def test_more_than_four_gigabytes_are_announced_as_rf64(tmp_path, length):
    """The sound itself is a hole in the file."""
    header = audio.wav_header(length, 1, 48_000, "16")
    with open(tmp_path / "a.wav", "wb") as file:
        file.write(header)
        file.truncate(len(header) + 2 * length)
    found = soundfile.info(tmp_path / "a.wav")
    assert (found.frames, found.samplerate, found.channels) == (length, 48_000, 1)
    assert found.format == ("WAV" if 2 * length < 2**32 - 2**16 else "RF64")
