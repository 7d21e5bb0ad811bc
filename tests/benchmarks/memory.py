"""Peak memory of compress and decompress for a short and a long recording: python tests/benchmarks/memory.py 1 60

Prints a line as soon as a command has ended. The recording is noise that swells, 44.1 kHz stereo.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from audiogen_cli.data.blocks import BlockWriter

RATE = 44_100


def record(path: Path, minutes: float) -> None:
    generator = torch.Generator().manual_seed(0)
    with open(path, "wb") as file:
        writer = BlockWriter(file, round(60 * minutes) * RATE, 2, RATE)
        for second in range(round(60 * minutes)):
            writer.write(torch.randn(2, RATE, generator=generator) * 0.01 * (1 + second % 10))
        writer.finish()


def measured(*arguments: object) -> tuple[float, float]:
    """Peak MB and seconds of the command."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "audiogen_cli", *map(str, arguments)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{arguments} failed")
    return usage.ru_maxrss / 1024, time.perf_counter() - start


def main() -> None:
    model = ("--model", os.environ["MODEL"]) if "MODEL" in os.environ else ()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for minutes in map(float, sys.argv[1:]):
            record(folder / "a.wav", minutes)
            for command, source, target in (("compress", "a.wav", "a.ecdc"), ("decompress", "a.ecdc", "b.wav")):
                peak, elapsed = measured(command, folder / source, "-o", folder / target, "--force", *model)
                sys.stdout.write(f"{command} {minutes:g} min: peak {peak:.0f} MB, {elapsed:.0f} s\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
