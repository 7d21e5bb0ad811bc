"""What looking longer for codes gives and costs: python tests/benchmarks/search.py FOLDER

    --source NAME   of the recordings those only that come from there
    --clips 20      at most
    --model NAME    whose codec (a mel codec)
    --widths 1 4 16

FOLDER is prepared by `audiolm prepare`. For four numbers of codebooks and each width of the search (1: the nearest
entry of every stage): the relative error of the latents, the mean absolute difference of log mels before the vocoder,
the rate after the entropy model, and how many times real time the quantizer takes, CPU time on one thread.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch

from audiogen_cli.data import audio
from audiogen_cli.hub import codecs
from audiogen_cli.pipelines import compress
from audiogen_cli.pipelines.rate_distortion import choose


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", default="")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--model", default="codec-small")
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 4, 16])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    named = codecs.load(arguments.model)
    codec: Any = named.codec
    lm = codecs.load_entropy_lm(named)
    paths = choose(arguments.folder, arguments.clips, 2.0, 10.0, arguments.source)
    sounds = [audio.read(path, codec.sample_rate, codec.channels).waveform[None] for path in paths]
    levels = [codec.level(sound) for sound in sounds]
    latents = [codec.encoder(level) for level in levels]
    seconds = sum(latent.shape[2] for latent in latents) / codec.frame_rate
    sys.stdout.write(f"{len(sounds)} recordings, {seconds:.0f} s, {arguments.model}\n")
    sys.stdout.write("| codebooks | sums kept | error, % | mel distance | kbps | times real time |\n")
    sys.stdout.write("|--:|--:|--:|--:|--:|--:|\n")
    for count in sorted({max(1, codec.num_codebooks * part // 28) for part in (4, 8, 14, 28)}):
        for width in arguments.widths:
            compress.search(codec, width)
            start = time.process_time()
            codes = [codec.quantizer.encode(latent, count) for latent in latents]
            spent = time.process_time() - start
            error = power = distance = bits = 0.0
            for level, latent, found in zip(levels, latents, codes, strict=True):
                sums = codec.quantizer.decode(found)
                made = codec.decoder(sums, torch.zeros(1, dtype=torch.int64))[:, 0]
                error, power = error + float((latent - sums).square().sum()), power + float(latent.square().sum())
                distance += float((level - made).abs().mean()) / len(levels)
                bits += float(lm.loss(found).sum()) * found.shape[2] / math.log(2)
            figures = (100 * error / power, distance, bits / seconds / 1000, seconds / spent)
            row = " | ".join(f"{value:.{digits}f}" for value, digits in zip(figures, (2, 4, 3, 0), strict=True))
            sys.stdout.write(f"| {count} | {width} | {row} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
