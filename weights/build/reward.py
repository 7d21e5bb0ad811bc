# ruff: noqa: T201  (a script that reports to whoever runs it)
"""Tunes the painter of the bundled model by what a tagger hears in its sounds: gradients go back through the tagger,
the codec's decoder and the last steps of painting (DRaFT-K, 2309.17400, section 4.1).

    caption --LM--> codes --painter, 4 steps--> latents --decoder--> mel --random phases--> waveform --ear--> classes
       its recordings ------------------------------------------------------------------------------ear--> targets
       its words -----------------------------------------------------------------names of the classes--> targets

Two sounds of each caption are made at a time, so that they can also be held against its recordings as a sample of a
distribution: by the energy score (2002: Szekely; Gneiting and Raftery, 2007, section 4.2) of what the ear hears of
them, which is least when they are as near to the recordings, and as far from each other, as the recordings are.

    python weights/build/reward.py DATA mn04_as_mAP_432.pt class_labels_indices.csv OUT [--steps 700] [--start OUT/flow]

DATA: of build/lm_data.py; of it only what was trained on. The ear is build/ear.py, the names are AudioSet's own list;
the evaluation's tagger is another one, which is not asked here. A penalty on how far the velocity strays from the
bundled flow's keeps the sounds varied.
Writes OUT/drawings.pt (minutes), OUT/targets.pt, and OUT/flow every hundred steps.
"""

from __future__ import annotations

import argparse
import copy
import csv
import itertools
import re
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ceilings import random_phases  # type: ignore[import-not-found]  # beside this file
from ear import Ear  # type: ignore[import-not-found]  # beside this file
from torch import Tensor

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.data import audio, manifest
from audiogen_cli.hub import catalog, checkpoint
from audiogen_cli.hub.catalog import Model
from audiogen_cli.models.decoding import decode, finish, take, with_null
from audiogen_cli.models.flow import Flow
from audiogen_cli.models.flow_decoding import guided
from audiogen_cli.models.mel import NOISE_FRAMES, MelCodec
from audiogen_cli.pipelines.generate import hear

SECONDS, SHORTEST = 5.0, 3.0  # what is heard of a recording, short ones repeated
MOST = 24  # recordings of one caption that are heard
TIMES = (0.5, 0.625, 0.75, 0.875, 1.0)  # of the painter's steps
ENDINGS = ("ing", "es", "s", "ed", "e")
LITTLE = {"a", "an", "the", "of", "on", "in", "sound", "and"}
VAGUE = {  # what a caption's words name by chance, or what says nothing
    "Music", "Speech", "Noise", "Hands", "Tools", "Animal", "Echo", "Static", "Inside, small room", "Tap",
    "Fly, housefly", "Light engine (high frequency)", "Sound effect", "Video game music",
}  # fmt: skip


class Target(NamedTuple):
    """classes: shares that add up to 1, [527]. weight: how sure the ear is of them. sounds: what it hears of each
    recording through its mel spectrogram, [N, D]."""

    classes: Tensor
    weight: float
    sounds: Tensor


def stems(text: str) -> set[str]:
    """Its words without their endings."""
    found = set()
    for word in re.findall(r"[a-z]+", text.lower()):
        ending = next((e for e in ENDINGS if word.endswith(e) and len(word) - len(e) >= 3), "")
        if word not in LITTLE:
            found.add(word.removesuffix(ending))
    return found


def named(caption: str, labels: list[str]) -> Tensor:
    """Which classes have a name, or one of several, whose words are all in the caption, [527]."""
    words = stems(caption)
    parts = [[stems(part) for part in re.split(r",\s*", label)] for label in labels]
    fits = [any(part and part <= words for part in names) for names in parts]
    return torch.tensor([float(fit and label not in VAGUE) for fit, label in zip(fits, labels, strict=True)])


@torch.no_grad()
def targets(chain: Chain, labels: list[str], clips: list[manifest.Clip]) -> dict[str, Target]:
    """What the ear hears in each caption's recordings more than in others, and what its words name, as much of
    either."""
    heard: dict[str, list[Tensor]] = defaultdict(list)
    sounds: dict[str, list[Tensor]] = defaultdict(list)
    codec, ear = chain.codec, chain.ear
    rate, highest = codec.sample_rate, codec.config.voice.f_max
    for clip in clips:
        if len(heard[clip.caption]) == MOST:
            continue
        waveform, source = audio.read(Path(clip.path))
        waveform = audio.resample(audio.remix(waveform, 1), source, rate)[:, : round(SECONDS * rate)]
        if float(waveform.abs().max()) < 1e-3:
            continue
        if waveform.shape[1] < SHORTEST * rate:
            gapped = torch.nn.functional.pad(waveform, (0, rate // 4))
            waveform = gapped.repeat(1, -(-round(SHORTEST * rate) // gapped.shape[1]))
        spectrum = torch.fft.rfft(waveform)
        kept = torch.arange(spectrum.shape[1]) * rate / waveform.shape[1] < highest
        heard[clip.caption].append(ear.logits(torch.fft.irfft(spectrum * kept, waveform.shape[1]), rate)[0].sigmoid())
        sounds[clip.caption].append(chain.heard(codec.level(waveform[None]))[0])
    means = {caption: torch.stack(found).mean(dim=0) for caption, found in heard.items() if found}
    usual = torch.stack(list(means.values())).mean(dim=0).clamp_min(1e-4)
    found = {}
    for caption, mean in means.items():
        special = mean * (mean / usual).clamp_min(1.0).log()
        most = float(special.max())
        special = special * (special > 0.2 * most)
        special, words = special / special.sum().clamp_min(1e-9), named(caption, labels)
        own = torch.stack(sounds[caption])
        if words.sum() > 0:
            words = words / words.sum()
            found[caption] = Target((words + special) / 2 if most > 0.1 else words, 1.0, own)
        elif most > 0.1:
            found[caption] = Target(special, min(1.0, 2 * most) ** 0.5, own)
    return found


@torch.no_grad()
def drawings(model: Model, captions: list[str], each: int) -> dict[str, list[Tensor]]:
    """Codes [K, T] of the language model, `each` for every caption."""
    found: dict[str, list[Tensor]] = defaultdict(list)
    frames = model.window_frames - 2
    for number, start in itertools.product(range(each), range(0, len(captions), 24)):
        some = captions[start : start + 24]
        seeds = [7000 + 1000 * number + start + index for index in range(len(some))]
        steps = decode(model.lm, hear(model, some), frames, seeds, model.sampling, None, lanes=8)
        for caption, codes in zip(some, finish(steps), strict=True):
            found[caption].append(codes)
    return found


class Chain:
    """From latents to what the ear hears of them."""

    def __init__(self, codec: MelCodec, ear: Ear, generator: torch.Generator) -> None:
        self.codec, self.ear, self.generator = codec, ear, generator

    def __call__(self, latents: Tensor) -> Tensor:
        """latents [B, D, T] -> [B, D']."""
        start = torch.randint(NOISE_FRAMES, (len(latents),), generator=self.generator)
        return self.heard(self.codec.textured(self.codec.decoder(latents, start), start))

    def heard(self, level: Tensor) -> Tensor:
        """log mels [B, M, T] -> [B, D']."""
        waveform = random_phases(self.codec, level, self.generator)
        level_db = -20.0 - 6.0 * float(torch.rand(1, generator=self.generator))
        return self.ear.heard(waveform, self.codec.sample_rate, level_db)


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
    parser.add_argument("ear", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--captions", type=int, default=6, help="of a step, two sounds each")
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--likeness", type=float, default=1.0, help="weight of the energy score")
    parser.add_argument("--stray", type=float, default=0.3, help="weight of the penalty on straying")
    parser.add_argument("--last", type=int, default=2, help="steps of painting that gradients go back through")
    parser.add_argument("--drawings", type=int, default=3, help="of each caption")
    parser.add_argument("--start", type=Path, help="a flow to go on from")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    model, generator = catalog.load("sounds-small"), torch.Generator().manual_seed(arguments.seed)
    codec: Any = model.codec
    reference = model.painter
    assert reference is not None
    flow: Any = checkpoint.load(arguments.start, expect=("flow",)) if arguments.start else copy.deepcopy(reference)
    for module in (reference, codec):
        module.requires_grad_(False)
    flow.requires_grad_(True).eval()
    chain = Chain(codec, Ear(arguments.ear), generator)
    clips = manifest.select(manifest.read(arguments.data / manifest.NAME), "train", ["A"])
    with arguments.labels.open() as file:
        labels = [row["display_name"] for row in csv.DictReader(file)]
    wanted = _kept(arguments.out / "targets.pt", lambda: targets(chain, labels, clips))
    captions = sorted(wanted)
    drawn = _kept(arguments.out / "drawings.pt", lambda: drawings(model, captions, arguments.drawings))
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
            checkpoint.save(
                arguments.out / "flow",
                flow,
                checkpoint.read_header(_bundled())["source"] | {"tuned by": arguments.ear.stem},
            )


def _bundled() -> Path:
    return Path(__file__).parent.parent / "sounds-small" / "flow"


def _kept(path: Path, make: Any) -> Any:
    """What `make` makes, made once."""
    if not path.exists():
        torch.save(make(), path)
    return torch.load(path, weights_only=False)


if __name__ == "__main__":
    main()
