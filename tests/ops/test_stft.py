import pytest
import torch

from audiogen_cli.ops import stft


@pytest.mark.parametrize("samples", [320, 1600, 4480])
@pytest.mark.parametrize(("n_fft", "hop"), [(640, 160), (1280, 320), (320, 320 // 2)])
def test_overlap_add_inverts_frame_stft(samples: int, n_fft: int, hop: int) -> None:
    waveform = torch.randn(2, samples)
    back = stft.overlap_add(stft.frame_stft(waveform, n_fft, hop), hop)
    torch.testing.assert_close(back, waveform, atol=1e-5, rtol=0)


@pytest.mark.parametrize("samples", [1, 319, 320, 321, 1000])
def test_frame_stft_makes_one_frame_for_every_started_hop(samples: int) -> None:
    assert stft.frame_stft(torch.randn(1, samples), 640, 320).shape == (1, 321, -(-samples // 320))


def test_stft_equals_torch_and_accepts_inputs_shorter_than_its_window() -> None:
    waveform = torch.randn(2, 3, 2000)
    expected = torch.stft(waveform.view(6, -1), 512, 128, window=torch.hann_window(512), return_complex=True)
    torch.testing.assert_close(stft.stft(waveform, 512, 128).view(6, 257, -1), expected)
    assert stft.stft(torch.randn(5), 512, 128).shape[0] == 257


def test_a_full_scale_sine_has_mel_magnitude_near_one_at_its_own_band() -> None:
    time = torch.arange(16_000) / 16_000
    mel = stft.mel_spectrogram(torch.sin(2 * torch.pi * 1000 * time), 16_000, 1024, 256, 64)[:, 20]
    bank = stft.mel_filter_bank(16_000, 1024, 64)
    assert mel.argmax() == bank[:, 64].argmax()  # 1000 Hz is bin 64
    assert 0.5 < mel.max() < 2.0


def test_neighbouring_mel_triangles_add_up_to_one_between_their_peaks() -> None:
    bank = stft.mel_filter_bank(16_000, 4096, 20)
    peaks = bank.argmax(1)
    torch.testing.assert_close(bank[:, peaks[0] : peaks[-1]].sum(0), torch.ones(int(peaks[-1] - peaks[0])))


def test_log_mel_of_silence_is_its_floor() -> None:
    torch.testing.assert_close(
        stft.log_mel(torch.zeros(1, 4000), 16_000, 512, 160, 64), torch.tensor(1e-5).log().expand(1, 64, 26)
    )


def test_griffin_lim_finds_a_waveform_with_the_magnitudes_asked_for_the_same_one_each_time() -> None:
    time = torch.arange(8_000) / 16_000
    sound = torch.sin(2 * torch.pi * 440 * time)[None] * torch.hann_window(8_000)
    magnitude = stft.frame_stft(sound, 640, 160).abs()
    errors = []
    for iterations in (1, 8, 64):
        found = stft.griffin_lim(magnitude, 160, iterations)
        errors.append((stft.frame_stft(found, 640, 160).abs() - magnitude).norm() / magnitude.norm())
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.1
    assert torch.equal(found, stft.griffin_lim(magnitude, 160, 64))
    assert torch.equal(stft.griffin_lim(torch.zeros(1, 321, 5), 160), torch.zeros(1, 800))


def test_the_noise_of_a_frame_depends_on_its_number_alone() -> None:
    whole = stft.frame_noise(5, 300, 0, stream=0)
    assert whole.shape == (5, 300) and whole.min() >= 0 and whole.max() < 1
    for first, frames in ((0, 1), (63, 2), (64, 64), (130, 170)):
        assert torch.equal(stft.frame_noise(5, frames, first, stream=0), whole[:, first : first + frames])
    assert len(whole.unique(dim=1).T) == 300  # no two frames alike
    assert not torch.equal(stft.frame_noise(5, 300, 0, stream=1), whole)


@pytest.mark.parametrize(("n_fft", "hop", "iterations"), [(64, 16, 2), (50, 16, 1), (48, 16, 0)])
def test_griffin_lim_of_a_part_is_that_part_of_the_whole(n_fft: int, hop: int, iterations: int) -> None:
    magnitude, reach = torch.rand(1, n_fft // 2 + 1, 80), (iterations + 1) * -(-n_fft // hop)
    whole = stft.griffin_lim(magnitude, hop, iterations)
    part = stft.griffin_lim(magnitude[..., 20:70], hop, iterations, first_frame=20)
    inner = slice(reach * hop, (50 - reach) * hop)
    torch.testing.assert_close(part[:, inner], whole[:, 20 * hop : 70 * hop][:, inner], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("rate", "n_fft", "mels", "top"), [(22_050, 1024, 80, 8000.0), (16_000, 512, 40, None)])
def test_slaneys_bank_is_the_one_of_transformers(rate: int, n_fft: int, mels: int, top: float | None) -> None:
    from transformers.audio_utils import mel_filter_bank

    theirs = mel_filter_bank(n_fft // 2 + 1, mels, 0.0, top or rate / 2, rate, norm="slaney", mel_scale="slaney")
    ours = stft.slaney_filter_bank(rate, n_fft, mels, top)
    torch.testing.assert_close(ours, torch.from_numpy(theirs).T.float(), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize(("rate", "n_fft", "bins"), [(32_000, 2**14, 12), (16_000, 2048, 12), (600, 512, 24)])
def test_the_chroma_filter_bank_is_that_of_transformers_and_librosa(rate: int, n_fft: int, bins: int) -> None:
    bank = stft.chroma_filter_bank(rate, n_fft, bins)
    assert bank.shape == (bins, n_fft // 2 + 1)
    theirs = pytest.importorskip("transformers.audio_utils").chroma_filter_bank
    wanted = theirs(num_frequency_bins=n_fft, num_chroma=bins, sampling_rate=rate, tuning=0.0)
    torch.testing.assert_close(bank, torch.from_numpy(wanted).float(), atol=1e-6, rtol=1e-5)
    librosa = pytest.importorskip("librosa")
    wanted = librosa.filters.chroma(sr=rate, n_fft=n_fft, tuning=0, n_chroma=bins)
    torch.testing.assert_close(bank, torch.from_numpy(wanted), atol=1e-6, rtol=1e-5)
