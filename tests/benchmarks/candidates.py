"""What the best of several candidates is worth: the share of prompts recognised by how many are drawn, and the time.

    python tests/benchmarks/candidates.py MODEL SOUNDS --most 8

MODEL is a folder with a scorer (`clap`); SOUNDS a folder where the candidates are kept as they are made, so that a run
that was stopped goes on, and another scorer is measured on the same sounds. N candidates are the first N of the most,
as `audiolm generate --candidates N` draws them, so that one run measures every N. "any" is what a perfect scorer would
reach, "worst" what one that is always wrong would.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from audiogen_cli.data import audio
from audiogen_cli.hub import catalog
from audiogen_cli.hub.catalog import Model
from audiogen_cli.metrics.tagger import Tagger
from audiogen_cli.models.decoding import finish
from audiogen_cli.pipelines import listening
from audiogen_cli.pipelines.candidates import candidate_seed, scores
from audiogen_cli.pipelines.generate import generate
from audiogen_cli.pipelines.listening import Setup, at_level
from audiogen_cli.pipelines.recognition import Listener

PROMPTS = Path(__file__).parents[2] / "weights" / "build" / "eval_prompts.csv"


def candidates(model: Model, text: str, numbers: list[int], seconds: float, folder: Path) -> list[torch.Tensor]:
    """The candidates [C, N] of seed 0, made where they are not kept yet."""
    paths = [folder / f"{text.replace(' ', '-')}-{number}.wav" for number in numbers]
    missing = [number for number, path in zip(numbers, paths, strict=True) if not path.exists()]
    if missing:
        seeds = [candidate_seed(0, number) for number in missing]
        raw = {"normalize": "none", "fade": 0.0, "candidates": 1}
        made = finish(generate(model, [text] * len(seeds), seconds, seeds, **raw))  # type: ignore[arg-type]
        for number, sound in zip(missing, made, strict=True):
            audio.write(paths[number], sound, model.sample_rate, bit_depth="float")
    return [audio.read(path).waveform for path in paths]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("sounds", type=Path)
    parser.add_argument("--most", type=int, default=8)
    parser.add_argument("--prompts", type=int, help="Only the first so many.")
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args()
    given.sounds.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model, tagger = catalog.load(given.model), Tagger()
    prompts = listening.read_prompts(PROMPTS)[: given.prompts]
    listener = Listener(Setup(model, tagger, 1, given.seconds, model.sampling), prompts)
    assert model.clap is not None, "the model has no scorer; put one into its folder clap"
    numbers = list(range(given.most))
    found, hits = torch.zeros(len(prompts), given.most), torch.zeros(len(prompts), given.most)
    for row, prompt in enumerate(prompts):
        sounds = candidates(model, prompt.text, numbers, given.seconds, given.sounds)
        found[row] = torch.tensor(scores(model, model.clap, prompt.text, sounds))
        heard = [at_level(listening.mono(sound, model.sample_rate)) for sound in sounds]
        hits[row] = torch.tensor([float(listener.hits(sound)[row]) for sound in heard])
        say(f"{prompt.text}: {hits[row].int().tolist()}, chosen {int(found[row].argmax())}")
    say("\n| candidates | recognised | any | worst | wall time of one |\n|--:|--:|--:|--:|--:|")
    for count in (2**power for power in range(given.most.bit_length())):
        own, chosen = hits[:, :count], found[:, :count].argmax(1, keepdim=True)
        began = time.monotonic()
        finish(generate(model, [prompts[0].text], given.seconds, [0], candidates=count))
        figures = [own.gather(1, chosen), own.amax(1), own.amin(1)]
        shares = " | ".join(f"{float(figure.mean()):.3f}" for figure in figures)
        say(f"| {count} | {shares} | {time.monotonic() - began:.1f} s |")


if __name__ == "__main__":
    main()
