import numpy as np
import pytest
import torch

from audiogen_cli.data.segments import (
    PLAIN,
    SegmentConfig,
    Segments,
    active_rms,
    balanced,
    crop,
    leveled,
    looped,
    repeated,
    shifted,
)
from audiogen_cli.errors import InputError

RATE = 16_000
LABELS = ["a dog barking", "a dog barking", "rain falling", "a man speaking", "an explosion", "a cat meowing"]
CONFIG = SegmentConfig(seconds=2.0)


def recordings():
    """Two barks, rain longer than the window, speech that fits in, a quiet explosion, a click of 10 ms."""
    noise = torch.Generator().manual_seed(0)
    lengths = [3000, 4000, 100_000, 28_000, 16_000, 160]
    levels = [0.5, 0.1, 0.02, 0.3, 0.0005, 0.9]
    pairs = zip(lengths, levels, strict=True)
    return [(level * torch.randn(1, length, generator=noise)).clamp(-1, 1) for length, level in pairs]


def decibel(ratio):
    return 20 * np.log10(ratio)


def test_an_example_is_a_function_of_seed_epoch_and_index():
    one, two = Segments(recordings(), LABELS, CONFIG, seed=3), Segments(recordings(), LABELS, CONFIG, seed=3)
    later = [one.example(1, i) for i in (5, 2)]
    assert one.example(1, 2).caption == later[1].caption
    assert torch.equal(two.example(1, 2).waveform, later[1].waveform)
    assert not torch.equal(two.example(0, 2).waveform, later[1].waveform)
    assert not torch.equal(Segments(recordings(), LABELS, CONFIG, seed=4).example(1, 2).waveform, later[1].waveform)
    assert torch.equal(Segments(recordings(), LABELS, CONFIG, seed=3, epoch=1)[2].waveform, later[1].waveform)


def test_every_example_fills_the_window_below_one_and_can_be_heard():
    data = Segments(recordings(), LABELS, CONFIG)
    for index in range(150):
        waveform, caption, _ = data[index]
        assert waveform.shape == (1, 32_000) and waveform.dtype == torch.float32 and caption
        assert waveform.isfinite().all() and waveform.abs().max() <= 0.951
        assert -45 < decibel(active_rms(waveform[0].numpy(), RATE)) < -8


def test_mixtures_hold_both_sounds_at_the_signal_to_noise_ratio_asked_for():
    t = np.arange(RATE * 4) / RATE
    tones = [torch.tensor(level * np.sin(2 * np.pi * f * t)).float()[None] for f, level in ((440, 0.5), (2000, 0.01))]
    config = SegmentConfig(seconds=2.0, mix_probability=1.0, sequence_probability=0.0, pitch_semitones=0.0, widen=False)
    data = Segments(tones, ["a low tone", "a high tone"], config)
    ratios = []
    for index in range(60):
        waveform, caption, _ = data[index]
        if " and " not in caption:  # drew the same class eight times
            continue
        spectrum = torch.fft.rfft(waveform[0]).abs()  # bins of 0.5 Hz
        ratio = decibel(float(spectrum[860:900].norm() / spectrum[3960:4040].norm()))
        ratios.append(ratio if caption.startswith("a low") else -ratio)
    assert -5.1 < min(ratios) < -3 and 3 < max(ratios) < 5.1 and abs(np.mean(ratios)) < 1.5


def test_a_sequence_holds_one_sound_and_then_the_other():
    t = np.arange(RATE * 4) / RATE
    tones = [torch.tensor(0.3 * np.sin(2 * np.pi * f * t)).float()[None] for f in (440, 2000)]
    config = SegmentConfig(seconds=2.0, mix_probability=1.0, sequence_probability=1.0, pitch_semitones=0.0, widen=False)
    data = Segments(tones, ["a low tone", "a high tone"], config)
    waveform, _, keys = next(e for e in (data[i] for i in range(20)) if e.caption == "a low tone then a high tone")
    start, end = (torch.fft.rfft(part[0]).abs().argmax() / 0.7 for part in (waveform[:, :11200], waveform[:, -11200:]))
    assert abs(start - 440) < 3 and abs(end - 2000) < 3 and keys == ("low tone", "high tone")


def test_a_plain_example_is_the_recording_itself():
    data = Segments(recordings()[3:4], LABELS[3:4], PLAIN)
    waveform, caption, _ = data[0]
    assert caption == "a man speaking" and waveform.shape == (1, 80_000)
    found = torch.nonzero(waveform[0]).flatten()
    piece = waveform[0, found[0] : found[0] + 28_000]
    assert torch.corrcoef(torch.stack([piece, recordings()[3][0]]))[0, 1] > 0.9999


def test_short_sounds_are_counted_right():
    click = np.ones(1600, dtype=np.float32)
    counts = set()
    for seed in range(40):
        out, times = repeated([click], 48_000, RATE, np.random.default_rng(seed))
        onsets = int((np.diff((np.abs(out) > 0.3).astype(int), prepend=0) == 1).sum())
        assert onsets == times >= 1 and len(out) == 48_000
        counts.add(min(times, 4))
    assert counts == {1, 2, 3, 4}
    assert repeated([np.ones(900, dtype=np.float32)], 800, RATE, np.random.default_rng(0))[1] == 1


def test_a_loop_has_no_gap_and_no_step():
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1
    out = looped(noise, 80_000, RATE, np.random.default_rng(1))
    blocks = np.sqrt(np.square(out.reshape(-1, 800)).mean(axis=1))
    assert len(out) == 80_000 and blocks.min() > 0.08 and blocks.max() < 0.13


def test_pitch_shifting_moves_frequency_and_length_together():
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
    up = shifted(tone, 2 ** (2 / 12))
    assert len(up) == pytest.approx(RATE / 2 ** (2 / 12), abs=2)
    peak = np.abs(np.fft.rfft(up)).argmax() * RATE / len(up)
    assert peak == pytest.approx(440 * 2 ** (2 / 12), abs=2)


def test_crops_avoid_the_pauses():
    sound = np.zeros(100_000, dtype=np.float32)
    sound[:30_000] = np.random.default_rng(0).standard_normal(30_000) * 0.1
    heard = [np.abs(crop(sound, 20_000, RATE, np.random.default_rng(seed))).max() > 0 for seed in range(50)]
    assert np.mean(heard) > 0.9


def test_levels_count_what_sounds_and_spare_the_peak():
    sound = np.zeros(RATE, dtype=np.float32)
    sound[:1600] = 0.01 * np.sin(np.arange(1600))
    assert decibel(active_rms(leveled(sound, -20.0, RATE), RATE)) == pytest.approx(-20.0, abs=0.1)
    assert np.abs(leveled(sound, 0.0, RATE)).max() <= 0.9501
    assert not leveled(np.zeros(100, dtype=np.float32), -20.0, RATE).any()


def test_classes_share_by_seconds_damped_and_not_by_files():
    weights = balanced(["a"] * 100 + ["b"], [1.0] * 101, 0.5)
    assert sum(weights[:100]) == pytest.approx(10.0) and weights[100] == pytest.approx(1.0)
    assert balanced(["a", "b"], [1000.0, 10.0], 1.0) == pytest.approx([10.0, 10.0])


def test_recordings_and_captions_must_pair():
    with pytest.raises(InputError, match="one caption"):
        Segments(recordings(), LABELS[:2], CONFIG)
    with pytest.raises(InputError):
        Segments([], [], CONFIG)
