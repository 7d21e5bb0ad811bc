"""The ends of a flow of mels: every spectrum is heard and made in the same way, at its own place."""

import pytest
import torch

from audiogen_cli.models.patches import PatchReader, PatchWriter

B, T, S, M, W, D = 2, 5, 4, 6, 8, 16


@pytest.fixture
def ends() -> tuple[PatchReader, PatchWriter]:
    torch.manual_seed(0)
    return PatchReader(S * M, S, W, D), PatchWriter(S * M, S, W, D, 2)


NOISY = torch.randn(B, T, S * M, generator=torch.Generator().manual_seed(1))
SETTING = torch.randn(B, D, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_spectra_are_heard_as_a_picture_that_may_be_moved(ends: tuple[PatchReader, PatchWriter]) -> None:
    reader, writer = ends
    marked = torch.zeros(B, T, 1)
    stacked, fine = reader(NOISY, marked, SETTING)
    assert stacked.shape == (B, T, D) and fine.shape == (B, T * S, W)
    moved = NOISY.reshape(B, T * S, M).roll(1, dims=1).reshape(B, T, S * M)  # by one spectrum, not by a frame
    inside = slice(4, T * S - 4)  # beyond what the edges reach
    torch.testing.assert_close(reader(moved, marked, SETTING)[1].roll(-1, 1)[:, inside], fine[:, inside])
    writer.split.bias.zero_()
    made = writer(torch.zeros(B, T, D), fine).reshape(B, T * S, M)
    again = writer(torch.zeros(B, T, D), fine.roll(1, 1)).reshape(B, T * S, M)
    assert made.shape == (B, T * S, M)
    within = slice(7, T * S - 7)
    torch.testing.assert_close(again.roll(-1, 1)[:, within], made[:, within])


@torch.no_grad()
def test_what_a_frame_says_stands_at_its_place(ends: tuple[PatchReader, PatchWriter]) -> None:
    _, writer = ends
    frames, fine = torch.zeros(B, T, D), torch.zeros(B, T * S, W)
    other = frames.clone()
    other[:, 2] = 1.0
    difference = (writer(other, fine) - writer(frames, fine)).abs().reshape(B, T * S, M).amax(dim=(0, 2))
    reach = 2 * 3  # two convolutions over seven spectra
    assert (difference[2 * S : 3 * S] > 1e-6).all()
    assert not difference[: 2 * S - reach].any() and not difference[3 * S + reach :].any()


@torch.no_grad()
def test_what_is_known_is_heard_otherwise_than_noise(ends: tuple[PatchReader, PatchWriter]) -> None:
    reader, _ = ends
    marked = (torch.arange(T) < 2).float()[None, :, None].expand(B, -1, -1)
    plain, known = (reader(NOISY, mark, SETTING)[1] for mark in (torch.zeros(B, T, 1), marked))
    changed = (plain - known).abs().amax(dim=(0, 2))
    assert (changed[: 2 * S] > 1e-6).all() and not changed[2 * S + 3 :].any()
    assert not torch.allclose(reader(NOISY, marked, SETTING + 1)[1], known)
