"""Sounds at once: a place is as loud as what happens in it, everything else stays as loud as it was made."""

from __future__ import annotations

import torch

from audiogen_cli.ops.blend import balance, blend


def test_a_place_becomes_as_loud_as_the_loudest_of_what_happens_there() -> None:
    powers = torch.tensor([1e-3, 4e-2, 2e-3, 1.0])
    gains = balance(powers, [True, False, False, True])
    torch.testing.assert_close(powers * gains, torch.tensor([4e-2, 4e-2, 2e-3, 4e-2]))


def test_places_alone_become_as_loud_as_the_loudest() -> None:
    powers = torch.tensor([1e-3, 4e-2])
    torch.testing.assert_close(powers * balance(powers, [True, True]), torch.tensor([4e-2, 4e-2]))


def test_without_a_place_nothing_is_turned() -> None:
    assert balance(torch.tensor([1e-3, 4e-2]), [False, False]).tolist() == [1.0, 1.0]
    assert balance(torch.tensor([1e-3]), [True]).tolist() == [1.0]


def test_silence_is_not_made_audible_and_makes_nothing_silent() -> None:
    gains = balance(torch.tensor([0.0, 1.0]), [True, False])
    assert gains[0] == 1e3 and gains[1] == 1
    assert 10 * balance(torch.tensor([1.0, 0.0]), [True, False]).log10()[0] == -30


def test_waveforms_are_turned_by_their_own_powers_and_added() -> None:
    dog, rain = torch.randn(2, 2, 1000, generator=torch.Generator().manual_seed(1))
    both = blend(torch.stack([dog, 0.1 * rain]), [False, True])
    wanted = dog + rain * (dog.square().mean() / rain.square().mean()).sqrt()
    torch.testing.assert_close(both, wanted)
    torch.testing.assert_close(blend(torch.stack([dog, rain]), [False, False]), dog + rain)
