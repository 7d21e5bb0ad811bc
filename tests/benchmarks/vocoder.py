"""How fast the bundled vocoder is, and what bfloat16 costs it: python tests/benchmarks/vocoder.py RECORDING...

CPU time on one thread, alternating, medians of five. "published" is V1 of the paper with random weights: of it only the
speed says something.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from audiogen_cli.data import audio
from audiogen_cli.hub import checkpoint
from audiogen_cli.hub.shelf import VOCODER, on_shelf
from audiogen_cli.models.hifigan import HiFiGAN, HiFiGANConfig

SECONDS, ROUNDS = 3.0, 5


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    model: HiFiGAN = checkpoint.load(on_shelf(VOCODER))  # type: ignore[assignment]
    model.eval()
    published = HiFiGAN(HiFiGANConfig()).eval()
    makes = {
        "published": lambda level: published(level),
        "float32": lambda level: model(level),
        "bfloat16": lambda level: model(level, torch.bfloat16),
    }
    for path in sys.argv[1:]:
        waveform = audio.read(path, model.config.sample_rate, 1).waveform[None, :, : round(SECONDS * 22_050)]
        level, seconds = model.mel(waveform), dict[str, list[float]]()
        for _ in range(ROUNDS + 1):
            made = {}
            for name, make in makes.items():
                start = time.process_time()
                made[name] = make(level)
                seconds.setdefault(name, []).append(time.process_time() - start)
        speed = {name: waveform.shape[2] / 22_050 / statistics.median(found[1:]) for name, found in seconds.items()}
        del made["published"]
        noise = made["float32"] - made["bfloat16"]
        ratio = 10 * (made["float32"].square().sum() / noise.square().sum()).log10()
        own = {
            name: float((model.mel(sound)[..., : level.shape[2]] - level).abs().mean()) for name, sound in made.items()
        }
        sys.stdout.write(
            f"{path}: times real time {', '.join(f'{name} {value:.1f}' for name, value in speed.items())}; "
            f"from the mel wanted {', '.join(f'{name} {value:.3f}' for name, value in own.items())} nepers; "
            f"bfloat16 differs by -{float(ratio):.0f} dB\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
