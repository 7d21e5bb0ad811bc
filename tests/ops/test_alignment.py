import itertools

import pytest
import torch

from audiogen_cli.ops.alignment import PASSED, WRONG, align


def cost(heard: list[int], plan: list[int], places: list[int]) -> int:
    passed = places[0] + sum(max(0, b - a - 1) for a, b in itertools.pairwise(places))
    return PASSED * passed + WRONG * sum(one != plan[place] for one, place in zip(heard, places, strict=True))


@pytest.mark.parametrize("seed", range(8))
def test_no_way_in_order_is_cheaper(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    heard, plan = (torch.randint(0, 3, (size,), generator=generator) for size in (5, 4))
    found = align(heard, plan).tolist()
    assert found == sorted(found) and len(found) == 5
    ways = itertools.combinations_with_replacement(range(4), 5)
    best = min(cost(heard.tolist(), plan.tolist(), list(way)) for way in ways)
    assert cost(heard.tolist(), plan.tolist(), found) == best


def test_what_lasts_stays_and_what_is_left_out_is_passed() -> None:
    plan = torch.tensor([5, 6, 7, 5, 8, 9])
    assert align(torch.tensor([5, 5, 7, 7, 7, 5, 8]), plan).tolist() == [0, 0, 2, 2, 2, 3, 4]
    assert align(plan.repeat_interleave(3), plan).tolist() == torch.arange(6).repeat_interleave(3).tolist()
    assert align(torch.tensor([7]), plan).tolist() == [0]  # to pass over two would cost more


def test_a_wrong_id_now_and_then_loses_nothing() -> None:
    plan = torch.tensor([1, 2, 3, 4, 1, 2])
    assert align(torch.tensor([1, 1, 9, 2, 2, 3, 9, 4, 1, 9, 2]), plan).tolist()[-1] == 5
