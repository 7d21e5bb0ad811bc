"""Damaged .ecdc streams by the thousand: python tests/benchmarks/fuzz.py COUNT [SEED]

Half of them packed, half entropy-coded; half of one segment, half of several with scales. Each must end in one sentence
or decode to the very bytes of the original, within a second, and memory must not grow. Prints what became of them.
"""

from __future__ import annotations

import importlib.util
import io
import os
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from audiogen_cli.formats.ecdc import read_header
from audiogen_cli.models.decoding import finish
from audiogen_cli.pipelines import compress as pipeline
from audiogen_cli.pipelines import entropy

TWIN = Path(__file__).parents[1] / "pipelines" / "test_compress.py"
SAMPLES = 150  # 25 frames; or three segments of 10


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    spec = importlib.util.spec_from_file_location("test_compress", TWIN)
    tests = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tests)
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    os.chdir(tempfile.mkdtemp())
    for segmented in (False, True):
        config = replace(tests.SEGMENTED, segment_seconds=0.1) if segmented else tests.PLAIN
        codec = tests.tiny(config)
        sound = tests.wav(Path("a.wav"), tests.noise(SAMPLES, config.channels), 600)
        for with_lm in (False, True):
            lm = entropy.exact(tests.tiny_lm(codec)) if with_lm else None
            data, sink = tests.packed(codec, sound, lm), io.BytesIO()
            source = io.BytesIO(data)
            finish(pipeline.decompress(read_header(source), source, sink, codec.codec, lm))
            before, slowest, intact = peak_mb(), 0.0, 0
            for mutant in tests.mutants(data, count // 4, seed):
                start = time.process_time()
                intact += tests.survives(codec, mutant, lm, sink.getvalue())
                slowest = max(slowest, time.process_time() - start)
            assert slowest < 1 and peak_mb() - before < 32, (slowest, peak_mb() - before)
            what = f"{'segments' if segmented else 'whole'}, {'lm' if with_lm else 'packed'}"
            sys.stdout.write(
                f"{what}: {count // 4} mutants of {len(data)} bytes, {intact} decoded intact, the rest a clean error; "
                f"slowest {1000 * slowest:.0f} ms of CPU, memory +{peak_mb() - before:.0f} MB\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
