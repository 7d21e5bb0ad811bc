"""GateLoop (2311.01927), its elementwise form: a linear recurrence whose decay the signal itself decides.

q, v, a = W rms_norm(x);    h_t = sigmoid(a_t) * h_{t-1} + v_t;    x_t -> x_t + q_t * h_t
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GateLoop(nn.Module):
    """[B, width, T] -> [B, width, T], with one shortcut, its own. Block by block as ops/streaming.py says."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.in_proj = nn.Linear(width, 3 * width, bias=False)

    def forward(self, signal: Tensor) -> Tensor:
        return self.stream(signal, None, True)[0]

    def stream(self, signal: Tensor, state: Tensor | None, last: bool) -> tuple[Tensor, Tensor | None]:
        """State: the last h, [B, width]."""
        if not signal.shape[-1]:
            return signal, state
        query, value, decay = self.in_proj(self.norm(signal.transpose(1, 2))).chunk(3, dim=-1)  # [B, T, width] each
        hidden = scan(decay.float().sigmoid(), value.float(), state)
        return signal + (query * hidden.to(query.dtype)).transpose(1, 2), hidden[:, -1]


def scan(decay: Tensor, value: Tensor, first: Tensor | None = None) -> Tensor:
    """h_t = decay_t * h_{t-1} + value_t from h_{-1} = `first` [B, D] or 0, all of [B, T, D] in log2(T) sweeps.

    After a sweep of width s, (decay_t, value_t) stands for the last 2 s steps. Decays lie in [0, 1]: nothing grows.
    """
    if first is not None:
        value = torch.cat([value[:, :1] + decay[:, :1] * first[:, None], value[:, 1:]], 1)
    width = 1
    while width < value.shape[1]:
        value = torch.cat([value[:, :width], value[:, width:] + decay[:, width:] * value[:, :-width]], 1)
        decay = torch.cat([decay[:, :width], decay[:, width:] * decay[:, :-width]], 1)
        width *= 2
    return value
