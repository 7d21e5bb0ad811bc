import os
import sys
import time

import numpy as np
import pytest
import soundfile
import torch

from audiogen_cli.data import audio
from audiogen_cli.errors import AudioError, OutputError

RATE = 16_000
KINDS = [("wav", "16"), ("wav", "24"), ("wav", "float"), ("flac", "16"), ("flac", "24"), ("ogg", "16")]


def tone(seconds=0.5, channels=1, frequency=440.0, level=0.5, rate=RATE):
    t = torch.arange(round(seconds * rate)) / rate
    return (level * torch.sin(2 * torch.pi * frequency * t)).repeat(channels, 1)


@pytest.mark.parametrize(("kind", "depth"), KINDS)
@pytest.mark.parametrize("channels", [1, 2])
def test_written_and_read_again_is_the_same_sound(tmp_path, kind, depth, channels):
    path, sound = tmp_path / f"a.{kind}", tone(channels=channels)
    audio.write(path, sound, RATE, depth)
    back = audio.read(path)
    assert back.sample_rate == RATE and back.waveform.shape == sound.shape and back.waveform.dtype == torch.float32
    tolerance = {"float": 0, "24": 2**-23, "16": 2**-15}[depth] if kind != "ogg" else 0.1
    inside = slice(None) if kind != "ogg" else slice(800, -800)  # Opus bends the first and last few milliseconds
    assert (back.waveform - sound)[:, inside].abs().max() <= tolerance
    peer, _ = soundfile.read(path, always_2d=True, dtype="float32")
    assert np.array_equal(peer.T, back.waveform.numpy())


def test_float_wav_keeps_every_sample_even_beyond_one(tmp_path):
    sound = torch.tensor([[0.1, -1.5, 3.0, 1e-30, -0.0]])
    audio.write(tmp_path / "a.wav", sound, RATE, "float")
    assert audio.read(tmp_path / "a.wav").waveform.numpy().tobytes() == sound.numpy().tobytes()


@pytest.mark.parametrize("depth", ["16", "24"])
def test_integers_clip_and_survive_a_second_round_unchanged(tmp_path, depth):
    noise = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    audio.write(tmp_path / "a.wav", noise, RATE, depth)
    once = audio.read(tmp_path / "a.wav").waveform
    assert once.abs().max() <= 1 and (once - noise.clamp(-1, 1)).abs().max() <= 2 ** -(int(depth) - 1)
    audio.write(tmp_path / "b.wav", once, RATE, depth)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


@pytest.mark.parametrize(("kind", "depth"), KINDS)
def test_comments_of_any_length_and_script_come_back_from_the_header(tmp_path, kind, depth):
    path, comment = tmp_path / f"a.{kind}", '{"prompt": "dög ☂ barking"}' + "y" * 40_000
    audio.write(path, tone(), RATE, depth, comment=comment)
    found = audio.info(path)
    assert found.comment == comment
    assert (found.sample_rate, found.channels, found.seconds) == (RATE, 1, 0.5)
    audio.write(tmp_path / f"b.{kind}", tone(), RATE, depth)
    assert audio.info(tmp_path / f"b.{kind}").comment == ""


@pytest.mark.parametrize(("kind", "depth"), KINDS)
def test_the_same_sound_gives_the_same_bytes(kind, depth, monkeypatch):
    first = audio.encode(tone(), RATE, depth, kind, "hello")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 5)
    time.sleep(1.1 if kind != "flac" else 0)  # libsndfile's clock ticks in seconds
    assert audio.encode(tone(), RATE, depth, kind, "hello") == first


def test_every_page_of_an_ogg_file_has_the_same_serial_and_other_sounds_have_another():
    def serials(data):
        return {data[i + 14 : i + 18] for i in range(len(data)) if data.startswith(b"OggS\0", i)}

    one, other = (audio.encode(tone(2.0, frequency=f), RATE, "16", "ogg") for f in (440.0, 550.0))
    assert len(serials(one)) == len(serials(other)) == 1 and serials(one) != serials(other)


def test_a_rate_that_opus_does_not_know_is_vorbis(tmp_path):
    audio.write(tmp_path / "a.ogg", tone(rate=44_100), 44_100)
    audio.write(tmp_path / "b.opus", tone(), RATE)
    assert audio.info(tmp_path / "a.ogg").subtype == "VORBIS" and audio.info(tmp_path / "b.opus").subtype == "OPUS"


def test_reading_resamples_and_remixes(tmp_path):
    audio.write(tmp_path / "a.wav", torch.cat([tone(rate=48_000), tone(rate=48_000) * 0]), 48_000, "float")
    back = audio.read(tmp_path / "a.wav", sample_rate=RATE, channels=1)
    assert back.sample_rate == RATE and back.waveform.shape == (1, RATE // 2)
    assert torch.allclose(back.waveform[:, 100:-100], tone()[:, 100:-100] / 2, atol=1e-3)
    assert audio.read(tmp_path / "a.wav", channels=2).waveform[1].abs().max() == 0
    assert torch.equal(audio.remix(tone(), 2)[1], tone()[0])


def test_each_unusable_file_is_refused_with_its_own_sentence(tmp_path):
    (tmp_path / "text.wav").write_text("this is no sound, really not")
    (tmp_path / "zero.wav").write_bytes(b"")
    audio.write(tmp_path / "empty.wav", torch.zeros(1, 0), RATE)
    audio.write(tmp_path / "nan.wav", torch.tensor([[0.0, float("nan")]]), RATE, "float")
    audio.write(tmp_path / "inf.wav", torch.tensor([[0.0, float("inf")]]), RATE, "float")
    sentences = {
        "text.wav": "not a sound file",
        "zero.wav": "empty file",
        "empty.wav": "0 samples",
        "nan.wav": "not numbers",
        "inf.wav": "not numbers",
        "none.wav": "no such file",
        ".": "folder",
        "a\0b": "null byte",
    }
    for name, sentence in sentences.items():
        with pytest.raises(AudioError, match=sentence) as caught:
            audio.read(f"{tmp_path}/{name}")
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_a_file_name_that_is_no_text_is_refused_in_one_sentence(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav")
    with open(path, "wb") as file:
        file.write(audio.encode(tone(), RATE, "16", "wav", ""))
    with pytest.raises(AudioError, match="is not UTF-8"):
        audio.read(path)


def test_a_truncated_wav_is_read_as_far_as_it_goes_or_refused_but_never_crashes(tmp_path):
    data = audio.encode(tone(), RATE, "16", "wav", "a comment")
    for size in range(1, len(data), 997):
        (tmp_path / "a.wav").write_bytes(data[:size])
        try:
            audio.info(tmp_path / "a.wav")
            assert audio.read(tmp_path / "a.wav").waveform.shape[1] <= 8000
        except AudioError:
            pass


def test_formats_that_cannot_hold_the_sound_say_so(tmp_path):
    with pytest.raises(OutputError, match="--bit-depth 24"):
        audio.encode(tone(), RATE, "float", "flac")
    with pytest.raises(OutputError, match="let the name end in"):
        audio.write(tmp_path / "a.mp4", tone(), RATE)
    with pytest.raises(OutputError, match="channels"):
        audio.encode(torch.zeros(12, 10), RATE, "16", "flac")
    with pytest.raises(OutputError, match="too long"):
        audio.encode(tone(), RATE, "16", "ogg", "y" * 60_000)
    assert not list(tmp_path.iterdir())


def test_loudness_agrees_with_the_standard_at_every_rate():
    for rate in (16_000, 48_000):
        # EBU Tech 3341: a 1 kHz sine at -23 dBFS in both of two channels is -23 LUFS; in one alone, 3 less.
        level = 10 ** (-23 / 20)
        stereo = tone(2.0, 2, 1000.0, level, rate)
        assert audio.loudness(stereo, rate) == pytest.approx(-23.0, abs=0.15)
        assert audio.loudness(stereo[:1], rate) == pytest.approx(-26.0, abs=0.15)
    gated = torch.cat([tone(4.0, 2, 1000.0, 10 ** (-23 / 20)), torch.zeros(2, RATE * 10)], dim=1)
    assert audio.loudness(gated, RATE) == pytest.approx(-23.0, abs=0.3)
    assert audio.loudness(torch.zeros(1, RATE), RATE) == -np.inf


def test_low_tones_are_weighted_down_and_high_ones_up():
    middle, low, high = (audio.loudness(tone(2.0, frequency=f, rate=48_000), 48_000) for f in (1000.0, 30.0, 10_000.0))
    assert low < middle - 5 and middle + 2.5 < high < middle + 4


def test_normalising_sets_peak_or_loudness_and_never_clips():
    quiet = tone(2.0, level=0.01)
    assert audio.normalize(quiet, RATE, "peak").abs().max() == pytest.approx(10 ** (-1 / 20), rel=1e-4)
    assert audio.loudness(audio.normalize(quiet, RATE, "loudness"), RATE) == pytest.approx(-16.0, abs=0.1)
    click = torch.zeros(1, RATE)
    click[0, 100] = 0.2
    assert audio.normalize(click, RATE, "loudness").abs().max() <= 10 ** (-1 / 20) + 1e-6
    assert audio.normalize(quiet, RATE, "none") is quiet
    assert torch.equal(audio.normalize(torch.zeros(1, 100), RATE, "loudness"), torch.zeros(1, 100))


def test_fades_start_and_end_near_zero_and_leave_the_middle():
    sound = torch.ones(2, RATE)
    faded = audio.fade(sound, RATE, 0.1)
    assert faded[:, 0].max() < 1e-3 and faded[:, -1].max() < 1e-3
    assert torch.equal(faded[:, 1600:-1600], sound[:, 1600:-1600])
    assert faded[0, :1600].diff().min() > 0 and torch.allclose(faded, faded.flip(1))
    assert audio.fade(sound, RATE, 0.0) is sound
    assert audio.fade(torch.ones(1, 5), RATE, 1.0).shape == (1, 5)
