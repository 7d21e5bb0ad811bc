from __future__ import annotations

import torch

from audiogen_cli.ops.ids import flatten, padded, trimmed, unflatten, unique_consecutive


def test_repeats_are_removed_within_a_row_and_only_neighbours() -> None:
    assert unique_consecutive(torch.tensor([3, 3, 1, 1, 1, 3, 2, 2])).tolist() == [3, 1, 3, 2]


def test_codes_are_flattened_frame_by_frame_and_back() -> None:
    codes = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert flatten(codes).tolist() == [1, 4, 2, 5, 3, 6]
    assert torch.equal(unflatten(flatten(codes), 2), codes)
    assert torch.equal(unflatten(flatten(codes)[:-1], 2), codes[:, :2])


def test_rows_are_padded_to_the_longest_and_parts_trimmed_to_theirs() -> None:
    rows = [torch.tensor([1, 2, 0]), torch.tensor([5]), torch.tensor([], dtype=torch.int64)]
    whole = padded(rows)
    assert whole.tolist() == [[1, 2, 0], [5, -1, -1], [-1, -1, -1]]
    assert torch.equal(trimmed(whole), whole)
    assert trimmed(whole[1:]).tolist() == [[5], [-1]] and trimmed(whole[2:]).shape == (1, 0)
    assert trimmed(torch.stack([whole, whole], dim=1)[1:]).tolist() == [[[5], [5]], [[-1], [-1]]]
