"""What a second of codes costs: coarse and fine stage code by code, or one stage of frames and levels.

    python tests/benchmarks/depth.py --seconds 2

Weights are random, for speed does not depend on them: six layers of 512 on 50 frames a second of 8 codebooks, of which
3 are coarse, and two layers of 256 within a frame. Both take turns in one process; processor time is counted.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from audiogen_cli.models.audiolm import Stage
from audiogen_cli.models.decoding import Sampling, finish
from audiogen_cli.models.stage_decoding import Item, decode
from audiogen_cli.models.stages import CoarseAndFineTransformer, CoarseTransformer, FineTransformer

FRAME_RATE, CODES, WORDS, LEVELS, COARSE = 50, 1024, 500, 8, 3


def milliseconds(stage: Stage, frames: int, seed: int) -> float:
    """Of a processor, for a frame of what the stage makes; some sounds end early."""
    generator = torch.Generator().manual_seed(seed)
    before, target = stage.config.blocks
    prefix = torch.randint(before.codebook_size, (frames * before.num_levels,), generator=generator)
    item = Item(prefix[:0], frames * target.num_levels, seed, prefix)
    start = time.process_time()
    [row] = finish(decode(stage, [item], None, Sampling(1.0, 0)))
    return 1000 * (time.process_time() - start) * target.num_levels / max(1, len(row))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = {"codebook_size": CODES, "dim": 512, "depth": 6, "flash_attn": True}
    coarse = CoarseTransformer(num_semantic_tokens=WORDS, num_coarse_quantizers=COARSE, **shape).eval()
    fine = FineTransformer(num_coarse_quantizers=COARSE, num_fine_quantizers=LEVELS - COARSE, **shape).eval()
    both = CoarseAndFineTransformer(num_semantic_tokens=WORDS, num_quantizers=LEVELS, **shape).eval()
    frames = round(options.seconds * FRAME_RATE)
    flat, deep = 0.0, 0.0
    for seed in range(options.rounds):
        flat += (milliseconds(coarse, frames, seed) + milliseconds(fine, frames, seed)) / options.rounds
        deep += milliseconds(both, frames, seed) / options.rounds
    sys.stdout.write(f"code by code {flat:.1f} ms a frame, frames and levels {deep:.1f} ms: {flat / deep:.2f} times\n")


if __name__ == "__main__":
    main()
