"""Attention in training on a processor, forwards and backwards: python tests/benchmarks/attention.py

CPU time on one thread, alternating, medians of nine, for [batch, heads, steps, width]: PyTorch's kernel in bfloat16, as
autocast would have it, and ops/attention.attend, which goes through float32.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.nn.functional as F

from audiogen_cli.ops.attention import attend, causal_bias

SHAPES = ((32, 6, 56, 64), (32, 4, 64, 48), (16, 4, 260, 64), (12, 4, 350, 48))
ROUNDS = 9


def main() -> None:
    torch.set_num_threads(1)
    for shape in SHAPES:
        taken = dict[str, list[float]]()
        for _ in range(ROUNDS):
            for name, heard in (("kernel", F.scaled_dot_product_attention), ("attend", attend)):
                query, keys, values = (torch.randn(shape).bfloat16().requires_grad_() for _ in range(3))
                bias = causal_bias(shape[2], shape[2], query)
                start = time.process_time()
                heard(query, keys, values, bias).sum().backward()
                taken.setdefault(name, []).append(time.process_time() - start)
        kernel, ours = (1000 * statistics.median(taken[name]) for name in ("kernel", "attend"))
        sys.stdout.write(f"{shape}: kernel {kernel:.0f} ms, attend {ours:.0f} ms, {kernel / ours:.2f} times as fast\n")


if __name__ == "__main__":
    main()
