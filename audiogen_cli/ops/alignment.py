"""Where in a plan each heard id stands: the cheapest way through the plan, in its order (dynamic time warping; Sakoe
and Chiba, 1978).

    plan    a b c d      a heard id stays with the planned one of the id before it, or goes on to a later one;
    heard   a a c c d    one that is not the planned id costs 4, every planned id that is passed over costs 3
    place   0 0 2 2 3
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WRONG, PASSED = 4, 3


def align(heard: Tensor, plan: Tensor) -> Tensor:
    """heard [T], plan [n], neither empty -> places [T] in the plan, never falling. The plan may go on after the end."""
    place = torch.arange(len(plan))
    toll = PASSED * place  # for all that lies before
    cost = toll + WRONG * (heard[0] != plan)
    came = list[Tensor]()
    for one in heard[1:]:
        least, source = (cost - toll).cummin(0)  # from where it is cheapest to come, if not from here
        moved = F.pad(least[:-1] + toll[:-1], (1, 0), value=WRONG * (len(plan) + len(heard)))
        stays = cost <= moved
        came.append(torch.where(stays, place, F.pad(source[:-1], (1, 0))))
        cost = torch.where(stays, cost, moved) + WRONG * (one != plan)
    places = [int(cost.argmin())]
    for source in reversed(came):
        places.append(int(source[places[-1]]))
    return torch.tensor(places[::-1])
