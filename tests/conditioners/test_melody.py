"""What is heard of a recording: known tunes give known pitch classes, and transformers hears the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from audiogen_cli.conditioners.melody import loudest_bins, melody_bins, turned
from audiogen_cli.ops.stft import chroma_filter_bank

RATE, N_FFT = 32_000, 2**14
HOP = N_FFT // 4
SCALE = (0, 2, 4, 5, 7, 9, 11, 12)  # C major, in semitones above C4


def tone(semitones: float, seconds: float, rate: int = RATE) -> Tensor:
    """A note above C4 with its first three overtones, [N]."""
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    frequency = 440.0 * 2 ** ((semitones - 9) / 12)
    return sum((2 * torch.pi * k * frequency * time).sin() * 0.3 / k for k in (1, 2, 3, 4)).float()  # type: ignore


def noise(samples: int) -> Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(0))


def test_every_pitch_class_has_its_bin_and_a4_has_the_ninth() -> None:
    time = torch.arange(RATE) / RATE
    assert (loudest_bins((2 * torch.pi * 440 * time).sin(), RATE, N_FFT) == 9).all()
    for semitones in range(-12, 24):
        assert (loudest_bins(tone(semitones, 1.0), RATE, N_FFT) == semitones % 12).all(), semitones


def test_a_scale_is_heard_note_by_note() -> None:
    bins = loudest_bins(torch.cat([tone(note, 1.0) for note in SCALE]), RATE, N_FFT)
    assert bins.shape == (1 + len(SCALE) * RATE // HOP,)
    middles = [round((index + 0.5) * RATE / HOP) for index in range(len(SCALE))]
    assert bins[middles].tolist() == [note % 12 for note in SCALE]


def test_silence_has_the_first_bin() -> None:
    assert loudest_bins(torch.zeros(3 * RATE), RATE, N_FFT).tolist() == [0] * (1 + 3 * RATE // HOP)


@pytest.mark.parametrize("samples", [1, 1000, N_FFT - 1, N_FFT, N_FFT + 1, 3 * RATE])
def test_bins_are_the_largest_of_the_sums_taken_the_long_way(samples: int) -> None:
    """Frame by frame: what is under the window, mirrored at the ends, weighed by the bank, in double precision."""
    waveform, bank = noise(samples).double(), chroma_filter_bank(RATE, N_FFT).double()
    missing = max(0, N_FFT - samples)
    zeros = torch.zeros(missing - missing // 2, dtype=torch.float64)
    sound = torch.cat([zeros[: missing // 2], waveform, zeros])
    mirrored = torch.cat([sound[1 : N_FFT // 2 + 1].flip(0), sound, sound[-N_FFT // 2 - 1 : -1].flip(0)])
    wanted = []
    for start in range(0, len(sound) + 1, HOP):
        frame = mirrored[start : start + N_FFT] * torch.hann_window(N_FFT, dtype=torch.float64)
        wanted.append(int((bank * torch.fft.rfft(frame).abs() ** 2).sum(dim=1).argmax()))
    assert loudest_bins(waveform.float(), RATE, N_FFT).tolist() == wanted


@pytest.mark.parametrize("samples", [9_000, 64_001, 5 * RATE])
def test_transformers_hears_the_same(samples: int) -> None:
    """Its own feature extractor. Where torchaudio is missing, its spectrogram is computed as torchaudio's source does
    it: the squared magnitudes of torch.stft, divided by the power of the window."""
    extraction = pytest.importorskip("transformers.models.musicgen_melody.feature_extraction_musicgen_melody")
    waveform = torch.cat([tone(note, 0.7) for note in SCALE[1:]])[:samples] + 0.1 * noise(min(samples, 7 * 22_400))
    extractor = extraction.MusicgenMelodyFeatureExtractor
    if not hasattr(extraction, "torchaudio"):
        extractor = object.__new__(extractor)
        window = torch.hann_window(N_FFT)

        def spectrogram(sound: Tensor) -> Tensor:
            found = torch.stft(sound, N_FFT, HOP, N_FFT, window, return_complex=True)
            return (found / window.square().sum().sqrt()).abs().square()

        bank = extraction.chroma_filter_bank(sampling_rate=RATE, num_frequency_bins=N_FFT, tuning=0, num_chroma=12)
        extractor.n_fft, extractor.spectrogram = N_FFT, spectrogram
        extractor.chroma_filters = torch.from_numpy(bank).float()
        theirs = extractor._torch_extract_fbank_features(waveform[None])
    else:
        theirs = extractor()(waveform.numpy(), sampling_rate=RATE, return_tensors="pt")["input_features"]
    assert theirs.shape[2] == 12 and bool((theirs.sum(dim=2) == 1).all())
    bins = loudest_bins(waveform, RATE, N_FFT)
    assert torch.equal(theirs[0].argmax(dim=1), bins)
    assert bins.any()


def test_a_short_melody_is_repeated_frame_by_frame_and_a_long_one_cut() -> None:
    waveform = torch.cat([tone(note, 0.5) for note in (0, 4, 7)])
    bins = loudest_bins(waveform, RATE, N_FFT)
    assert len(bins) == 12
    assert torch.equal(melody_bins(waveform, RATE, N_FFT, 12, 30), torch.cat([bins, bins, bins[:6]]))
    assert torch.equal(melody_bins(waveform, RATE, N_FFT, 12, 12), bins)
    for frames in range(1, 12):
        assert torch.equal(melody_bins(waveform, RATE, N_FFT, 12, frames), bins[:frames])


def test_what_follows_the_last_frame_is_not_read() -> None:
    """An hour of recording would otherwise be an hour of spectrum."""
    waveform = noise(10 * RATE)
    end = 7 * HOP + N_FFT // 2
    spoilt = torch.cat([waveform[:end], torch.full_like(waveform[end:], torch.nan)])
    assert torch.equal(melody_bins(spoilt, RATE, N_FFT, 12, 8), loudest_bins(waveform, RATE, N_FFT)[:8])


@pytest.mark.parametrize(("start", "samples"), [(0, 5), (3, 4), (9, 3), (27, 25), (0, 10)])
def test_a_turned_recording_begins_again_where_it_ends(start: int, samples: int) -> None:
    waveform = torch.arange(10.0)
    assert turned(waveform, start, samples).tolist() == [(start + index) % 10 for index in range(samples)]
