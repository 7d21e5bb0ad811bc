# ruff: noqa: T201  (a script that reports to whoever runs it)
"""Tunes the painter of the bundled model by what a tagger hears in its sounds: gradients go back through the tagger,
the codec's decoder and the last steps of painting (DRaFT-K, 2309.17400, section 4.1).

    caption --LM--> codes --painter, 4 steps--> latents --decoder--> mel --random phases--> waveform --ear--> classes
       its recordings ------------------------------------------------------------------------------ear--> targets
       its words -----------------------------------------------------------------names of the classes--> targets

Two sounds of each caption are made at a time, so that they can also be held against its recordings as a sample of a
distribution: by the energy score (2002: Szekely; Gneiting and Raftery, 2007, section 4.2) of what the ear hears of
them, which is least when they are as near to the recordings, and as far from each other, as the recordings are.

    python weights/build/reward.py DATA class_labels_indices.csv OUT [--steps 700] [--start OUT/flow]

DATA: of build/lm_data.py; of it only what was trained on. The ear is that of the bundled judge (build/judge.py), the
names are AudioSet's own list; the evaluation's tagger is another one, which is not asked here. A penalty on how far the
velocity strays from the bundled flow's keeps the sounds varied.
Writes OUT/drawings.pt (minutes), OUT/targets.pt, and OUT/flow every hundred steps.
"""

from __future__ import annotations

import argparse
import copy
import itertools
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from judge import read_labels, targets  # type: ignore[import-not-found]  # beside this file
from torch import Tensor

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.data import manifest
from audiogen_cli.hub import catalog, checkpoint
from audiogen_cli.hub.catalog import Model
from audiogen_cli.models.decoding import decode, finish, take, with_null
from audiogen_cli.models.ear import LEVEL_DB, Ear
from audiogen_cli.models.flow import Flow
from audiogen_cli.models.flow_decoding import guided
from audiogen_cli.models.mel import NOISE_FRAMES, MelCodec
from audiogen_cli.pipelines.generate import hear

TIMES = (0.5, 0.625, 0.75, 0.875, 1.0)  # of the painter's steps


@torch.no_grad()
def drawings(model: Model, captions: list[str], each: int, guidance: float) -> dict[str, list[Tensor]]:
    """Codes [K, T] of the language model, `each` for every caption."""
    found: dict[str, list[Tensor]] = defaultdict(list)
    frames, sampling = model.window_frames - 2, replace(model.sampling, guidance=guidance)
    for number, start in itertools.product(range(each), range(0, len(captions), 24)):
        some = captions[start : start + 24]
        seeds = [7000 + 1000 * number + start + index for index in range(len(some))]
        steps = decode(model.lm, hear(model, some), frames, seeds, sampling, None, lanes=8)
        for caption, codes in zip(some, finish(steps), strict=True):
            found[caption].append(codes)
    return found


class Chain:
    """From latents to what the ear hears of them."""

    def __init__(self, codec: MelCodec, ear: Ear, generator: torch.Generator) -> None:
        self.codec, self.ear, self.generator = codec, ear, generator

    def __call__(self, latents: Tensor) -> Tensor:
        """latents [B, D, T] -> [B, C]."""
        start = torch.randint(NOISE_FRAMES, (len(latents),), generator=self.generator)
        level = self.codec.textured(self.codec.decoder(latents, start), start)
        level_db = LEVEL_DB - 6.0 * float(torch.rand(1, generator=self.generator))
        heard: Tensor = self.ear(self.codec.scattered(level, self.generator), self.codec.sample_rate, level_db)
        return heard


def energy_score(made: Tensor, recordings: Tensor) -> Tensor:
    """made [2, D], recordings [N, D] -> how far from being two more of them."""
    scale = made.shape[1] ** -0.5
    return scale * (torch.cdist(made, recordings).mean() - 0.5 * torch.dist(made[0], made[1]))


class Velocity:
    """A flow's guided velocity for one batch of texts."""

    def __init__(self, flow: Flow, heard: Condition, guidance: float) -> None:
        self.flow, self.heard, self.guidance = flow, heard, guidance
        self.memory = flow.remember(heard)

    def __call__(self, frames: Tensor, time: float) -> Tensor:
        times = torch.full((self.heard.batch_size,), time)
        velocity = self.flow(frames.repeat_interleave(2, 0), times, self.heard, None, self.memory)
        return guided(frames, velocity[0::2], velocity[1::2], time, self.guidance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--captions", type=int, default=6, help="of a step, two sounds each")
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--likeness", type=float, default=6.0, help="weight of the energy score")
    parser.add_argument("--stray", type=float, default=0.1, help="weight of the penalty on straying")
    parser.add_argument("--last", type=int, default=2, help="steps of painting that gradients go back through")
    parser.add_argument("--drawings", type=int, default=4, help="of each caption")
    parser.add_argument("--sketching", type=float, default=0.0, help="of models/flow.py, for the drawings and after")
    parser.add_argument("--start", type=Path, help="a flow to go on from")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    model, generator = catalog.load("sounds-small"), torch.Generator().manual_seed(arguments.seed)
    codec: Any = model.codec
    reference = model.painter
    assert reference is not None and model.judge is not None
    flow: Any = checkpoint.load(arguments.start, expect=("flow",)) if arguments.start else copy.deepcopy(reference)
    flow.config = replace(flow.config, sketching=arguments.sketching)
    for module in (reference, codec, model.judge):
        module.requires_grad_(False)
    flow.requires_grad_(True).eval()
    chain = Chain(codec, model.judge.ear, generator)
    clips = manifest.select(manifest.read(arguments.data / manifest.NAME), "train", ["A"])
    labels = read_labels(arguments.labels)
    wanted = _kept(arguments.out / "targets.pt", lambda: targets(codec, chain.ear, labels, clips))
    captions = sorted(wanted)
    lower = 1 + (model.sampling.guidance - 1) * arguments.sketching
    drawn = _kept(arguments.out / "drawings.pt", lambda: drawings(model, captions, arguments.drawings, lower))
    with torch.no_grad():
        texts = {caption: hear(model, [caption]) for caption in captions}
    everything = torch.cat([wanted[caption].sounds for caption in captions])
    centre, scale = everything.mean(dim=0), everything.std(dim=0).clamp_min(1e-3)
    weights = torch.tensor([wanted[caption].weight * len(wanted[caption].sounds) ** 0.5 for caption in captions])
    weights = weights.clamp_max(4.0)
    guidance = 1 + (model.sampling.guidance - 1) * flow.config.emphasis
    optimizer = torch.optim.Adam(flow.parameters(), arguments.rate, betas=(0.9, 0.99))
    spans = list(itertools.pairwise(TIMES))
    print(f"{len(captions)} captions of {len(clips)} recordings")

    for step in range(1, arguments.steps + 1):
        optimizer.param_groups[0]["lr"] = arguments.rate * min(1.0, step / 20)
        chosen = [captions[i] for i in torch.multinomial(weights, arguments.captions, generator=generator).tolist()]
        which = [torch.randperm(arguments.drawings, generator=generator)[:2].tolist() for _ in chosen]
        codes = torch.stack([drawn[caption][k] for caption, own in zip(chosen, which, strict=True) for k in own]).long()
        with torch.no_grad():
            texts_heard = Condition.cat([texts[caption] for caption in chosen for _ in range(2)])
            length = -(-int(texts_heard.mask.sum(dim=1).max()) // 32) * 32
            heard = with_null(take(texts_heard, list(range(len(codes))), length))
            sketch = flow.whitened(codec.latents_of(codes))
            frames = torch.randn(sketch.shape, generator=generator) * (1 - TIMES[0]) + sketch * TIMES[0]
            before, now = Velocity(reference, heard, guidance), Velocity(flow, heard, guidance)
            for begin, end in spans[: -arguments.last]:
                frames = frames + now(frames, begin) * (end - begin)
        now, stray = Velocity(flow, heard, guidance), torch.zeros(())
        for begin, end in spans[-arguments.last :]:
            velocity = now(frames, begin)
            with torch.no_grad():
                usual = before(frames, begin)
            stray = stray + (velocity - usual).square().mean() / arguments.last
            frames = frames + velocity * (end - begin)
        pairs = chain(flow.coloured(frames)).unflatten(0, (-1, 2))
        missed, unlike, apart = torch.zeros(()), torch.zeros(()), 0.0
        for caption, pair in zip(chosen, pairs, strict=True):
            shares, sure, sounds = wanted[caption]
            said = chain.ear.named(pair).log_softmax(dim=1)
            missed = missed + sure * (shares * (shares.clamp_min(1e-9).log() - said)).sum(dim=1).mean() / len(chosen)
            made = (pair - centre) / scale
            unlike = unlike + energy_score(made, (sounds - centre) / scale) / len(chosen)
            apart += float(torch.dist(*made.detach())) * made.shape[1] ** -0.5 / len(chosen)
        loss = missed + arguments.likeness * unlike + arguments.stray * stray
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
        optimizer.step()
        print(
            f"step {step}: {missed.item():.3f} nats off the targets, energy score {unlike.item():.3f}, {apart:.3f} "
            f"apart, strayed {stray.item():.3f}",
            flush=True,
        )
        if step % 100 == 0 or step == arguments.steps:
            source = checkpoint.read_header(_bundled())["source"] | {"tuned by": "mn04 (build/reward.py)"}
            checkpoint.save(arguments.out / "flow", flow, source)


def _bundled() -> Path:
    return Path(__file__).parent.parent / "sounds-small" / "flow"


def _kept(path: Path, make: Any) -> Any:
    """What `make` makes, made once."""
    if not path.exists():
        torch.save(make(), path)
    return torch.load(path, weights_only=False)


if __name__ == "__main__":
    main()
