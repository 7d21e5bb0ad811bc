"""Trains a stage and a small draft of it on real speech, and prints what speculative decoding saves.

    python tests/benchmarks/speculative.py FOLDER --steps 300

The ids are those of log-mel frames of the folder's recordings, clustered: 50 a second, 64 of them, repeats kept. Both
ways go on with the same prompts, turn by turn in one process, and processor time is counted, so that a busy machine
troubles neither. There are two drafts: a small stage trained on the same, and the first layer of the stage itself with
its heads (early exit), which needs no training.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor

from audiogen_cli.data import audio
from audiogen_cli.models.audiolm import Block, Stage, StageConfig, stage_loss
from audiogen_cli.models.decoding import Sampling, finish
from audiogen_cli.models.speculative import speculate
from audiogen_cli.models.stage_decoding import Item, decode
from audiogen_cli.ops.ids import padded
from audiogen_cli.ops.stft import log_mel
from audiogen_cli.quantizers import kmeans

RATE, HOP, CODES, CROP, PROMPT, LENGTH = 16_000, 320, 64, 128, 32, 160
TARGET = StageConfig(
    "semantic",
    (Block("semantic", CODES),),
    256,
    6,
    positions="rope",
    residual_streams=1,
    gradient_shrink=1.0,
    forget=0.0,
    unique_consecutive=False,
)


def tokens(folder: Path, count: int) -> list[Tensor]:
    """Ids [n] of `count` recordings."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in audio.SUFFIXES)[:count]
    frames = [log_mel(audio.read(path, RATE, 1).waveform, RATE, 1024, HOP, 40)[0].T for path in paths]
    centres = kmeans.fit(torch.cat(frames), CODES, iterations=10)
    return [kmeans.nearest(frame, centres) for frame in frames]


def trained(config: StageConfig, sounds: list[Tensor], held_out: list[Tensor], steps: int, rate: float) -> Stage:
    torch.manual_seed(0)
    stage, generator = Stage(config), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(stage.parameters(), rate)
    for _ in range(steps):
        rows = []
        for index in torch.randint(len(sounds), (4,), generator=generator).tolist():
            start = int(torch.randint(max(1, len(sounds[index]) - CROP), (1,), generator=generator))
            rows.append(sounds[index][start : start + CROP])
        loss = stage_loss(stage, config, [padded(rows)], torch.zeros(len(rows)).bool())
        optimizer.zero_grad()
        loss.mean.backward()
        optimizer.step()
    stage.eval()
    with torch.no_grad():
        rows = padded([sound[:CROP] for sound in held_out])
        loss = stage_loss(stage, config, [rows], torch.zeros(len(rows)).bool(), training=False)
    say(f"{config.num_layers} layers of {config.dim}: {float(loss.target):.2f} nats an id that was never heard")
    return stage


def early_exit(stage: Stage, layers: int) -> Stage:
    """The stage with its first layers alone."""
    short = Stage(replace(stage.config, num_layers=layers)).eval()
    short.load_state_dict({name: stage.state_dict()[name] for name in short.state_dict()})
    return short


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--recordings", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sounds = tokens(options.folder, options.recordings)
    known, held_out = sounds[: -options.rounds], sounds[-options.rounds :]
    target = trained(TARGET, known, held_out, options.steps, 1e-3)
    drafts = {
        "a layer of 64": trained(replace(TARGET, dim=64, num_layers=1), known, held_out, 3 * options.steps, 3e-3),
        "the first layer": early_exit(target, 1),
    }
    passes = [0]
    target.transformer.register_forward_hook(lambda *_: passes.__setitem__(0, passes[0] + 1))
    ways = {"no draft": lambda item, how: decode(target, [item], sampling=how)}
    for name, draft in drafts.items():
        for ahead in (2, 4):
            ways[f"{name}, {ahead} ahead"] = lambda item, how, draft=draft, ahead=ahead: speculate(
                target, draft, [item], sampling=how, ahead=ahead
            )
    for temperature in (0.0, 0.6, 1.0):
        spent = {name: [0.0, 0.0, 0.0] for name in ways}  # processor seconds, passes of the stage, ids made
        for seed, sound in enumerate(held_out):
            item = Item(sound[:PROMPT], LENGTH, seed)
            for name, way in ways.items():
                passes[0], start = 0, time.process_time()
                [row] = finish(way(item, Sampling(temperature, top_k=0)))
                for place, more in enumerate((time.process_time() - start, passes[0], len(row) - PROMPT)):
                    spent[name][place] += more
        plain = spent["no draft"]
        for name, (seconds, count, made) in spent.items():
            faster = plain[0] / plain[2] / (seconds / made)
            say(
                f"temperature {temperature}  {name:26} {1000 * seconds / made:6.2f} ms an id  "
                f"{made / count:4.2f} ids a pass  {faster:4.2f} times as fast"
            )


if __name__ == "__main__":
    main()
