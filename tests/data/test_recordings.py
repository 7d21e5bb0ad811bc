from pathlib import Path

import pytest
import torch

from audiogen_cli.data import audio
from audiogen_cli.data.recordings import Recordings, balanced_weights
from audiogen_cli.errors import InputError


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_files_are_read_at_one_rate_and_kept_in_sixteen_bits(tmp_path: Path) -> None:
    sounds = [torch.rand(2, 8_000) - 0.5, torch.rand(1, 16_000) - 0.5]
    for index, (sound, rate) in enumerate(zip(sounds, (8_000, 16_000), strict=True)):
        audio.write(tmp_path / f"{index}.wav", sound, rate, bit_depth="float")
    recordings = Recordings.load([tmp_path / "0.wav", tmp_path / "1.wav"], 16_000)
    assert [recordings[i].shape for i in range(len(recordings))] == [(1, 16_000), (1, 16_000)]
    torch.testing.assert_close(recordings[1], sounds[1], atol=2e-5, rtol=0)


def test_no_recordings_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(InputError, match="give a folder"):
        Recordings([])


def test_a_crop_is_the_same_for_the_same_seed_and_lies_in_the_recording() -> None:
    recordings = Recordings([torch.arange(100, dtype=torch.int16)[None]])
    crop = recordings.crop(10, seeded(3))
    assert torch.equal(crop, recordings.crop(10, seeded(3)))
    assert torch.equal((crop * 32_767).round().diff(), torch.ones(1, 9))


def test_a_crop_longer_than_a_recording_is_filled_with_more_of_them() -> None:
    recordings = Recordings([torch.full((1, 3), 5, dtype=torch.int16), torch.full((1, 4), 9, dtype=torch.int16)])
    crops = [(recordings.crop(50, seeded(i)) * 32_767).round() for i in range(20)]
    assert all(crop.shape == (1, 50) for crop in crops)
    assert {float(value) for crop in crops for value in crop.unique()} == {0.0, 5.0, 9.0}
    assert sum(float((crop == 0).float().mean()) for crop in crops) / 20 < 0.3


def test_a_crop_of_recordings_without_samples_would_never_fill() -> None:
    with pytest.raises(InputError, match="empty"):
        Recordings([torch.zeros(1, 0, dtype=torch.int16)])


def test_a_recording_of_weight_zero_is_never_drawn() -> None:
    recordings = Recordings(
        [torch.zeros(1, 5, dtype=torch.int16), torch.full((1, 5), 9, dtype=torch.int16)], [0.0, 1.0]
    )
    assert all(recordings.crop(5, seeded(i)).min() > 0 for i in range(50))


def test_a_label_weighs_the_root_of_its_seconds() -> None:
    weights = balanced_weights(["a", "a", "b"], [4.0, 100.0, 1.0])
    assert weights[0] + weights[1] == pytest.approx(14**0.5)  # 100 seconds count as 10
    assert weights[2] == pytest.approx(1.0)
