# ruff: noqa: T201  (a script that reports to whoever runs it)
"""Makes weights/hifigan/vocoder of the universal generator (build/convert_hifigan.py): its residual convolutions are
split in two, of which the first makes few channels, those in which most of what it made of recordings lies.

    y = W x,  mean m, principal components U [C, r]      y ~ U (U' W x) + (m - U U' m)

    python weights/build/narrow_hifigan.py WHOLE DATA weights/hifigan/vocoder [--share 0.55]

WHOLE: the generator. DATA: of `audiolm prepare`; of it only what the bundled models were trained on. `share`: of the
multiplications of all residual convolutions that are kept. Where they are worth most: a component goes by its energy as
a part of what the stage passes on. The last stage, in which memory is what takes long, stays whole. Minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiogen_cli.data import manifest
from audiogen_cli.data.recordings import Recordings
from audiogen_cli.hub import checkpoint
from audiogen_cli.models.hifigan import SLOPE, HiFiGAN

FRAMES, CROPS = 128, 96
STEP = 16  # channels that are given at a time: rows of two, or four, of a processor's vectors
WORTH = 0.9  # of a whole convolution's cost, from which on splitting it saves nothing


class Components(NamedTuple):
    """Of what a convolution makes: the energies of its principal components [C], falling; these, columns of [C, C]; its
    mean."""

    energy: Tensor
    vectors: Tensor
    mean: Tensor


class Split(NamedTuple):
    """A convolution that can be split. whole: its multiplications as it is, for each mel frame; cost: the same for each
    channel between its halves; weight: what an energy of its output counts."""

    components: Components
    whole: int
    cost: int
    weight: float


class Moments:
    def __init__(self) -> None:
        self.count, self.total, self.products = 0, torch.zeros(()), torch.zeros(())

    def add(self, made: Tensor) -> None:
        """made [B, C, T]"""
        rows = made.transpose(1, 2).flatten(0, 1).double()
        self.count += len(rows)
        self.total = self.total + rows.sum(dim=0)
        self.products = self.products + rows.T @ rows

    def components(self) -> Components:
        mean = self.total / self.count
        energy, vectors = torch.linalg.eigh(self.products / self.count - torch.outer(mean, mean))
        return Components(energy.flip(0).clamp_min(0), vectors.flip(1), mean)


@torch.inference_mode()
def listen(vocoder: HiFiGAN, levels: list[Tensor]) -> tuple[dict[nn.Module, Moments], list[float]]:
    """What each residual convolution makes of log mels [1, M, T], and each stage's energy."""
    moments: dict[nn.Module, Moments] = {}
    energies = [0.0] * len(vocoder.up)

    def heard(layer: nn.Module, x: Tensor) -> Tensor:
        made: Tensor = layer(F.leaky_relu(x, SLOPE))
        moments.setdefault(layer, Moments()).add(made)
        return made

    for level in levels:
        x = vocoder.pre(level)
        for stage, (up, blocks) in enumerate(zip(vocoder.up, vocoder.blocks, strict=True)):
            start, ends = up(F.leaky_relu(x, SLOPE)), []
            for block in blocks:  # type: ignore[union-attr]
                y = start
                for dilated, plain in zip(block.dilated, block.plain, strict=True):  # type: ignore[union-attr]
                    y = y + heard(plain, heard(dilated, y))
                ends.append(y)
            x = torch.stack(ends).mean(dim=0)
            energies[stage] += float(x.square().sum(dim=1).mean()) / len(levels)
    return moments, energies


def splits(vocoder: HiFiGAN, moments: dict[nn.Module, Moments], energies: list[float]) -> list[Split]:
    """In the order of `ranks`."""
    found, rate = [], 1
    for blocks, up, energy in zip(vocoder.blocks, vocoder.config.upsample_rates, energies, strict=True):
        rate *= up
        for block in blocks:  # type: ignore[union-attr]
            for pair in zip(block.dilated, block.plain, strict=True):  # type: ignore[union-attr]
                ends = moments[pair[1]].components().energy.sum()
                for layer in pair:
                    own, channels, kernel = moments[layer].components(), layer.out_channels, layer.kernel_size[0]
                    whole, cost = rate * channels * channels * kernel, rate * channels * (kernel + 1)
                    found.append(Split(own, whole, cost, float(ends / own.energy.sum()) / energy))
    return found


def shared_out(layers: list[Split], share: float, fixed: int) -> list[int]:
    """How many channels each layer gets: those first that save most error for what they cost, until `share` of all
    multiplications is spent. The last `fixed` layers stay whole (0)."""
    ranks = [0] * len(layers)
    budget = share * sum(layer.whole for layer in layers) - sum(layer.whole for layer in layers[-fixed:])
    worth = [
        (float(layer.components.energy[rank : rank + STEP].sum()) * layer.weight / layer.cost, i)
        for i, layer in enumerate(layers[:-fixed])
        for rank in range(0, len(layer.components.energy), STEP)
    ]
    for _, i in sorted(worth, reverse=True):
        if budget >= layers[i].cost * STEP:
            ranks[i] += STEP
            budget -= layers[i].cost * STEP
    ranks[:-fixed] = [max(rank, STEP) for rank in ranks[:-fixed]]
    return [0 if rank * layer.cost > WORTH * layer.whole else rank for rank, layer in zip(ranks, layers, strict=True)]


@torch.no_grad()
def narrowed(vocoder: HiFiGAN, layers: list[Split], ranks: list[int]) -> HiFiGAN:
    made = HiFiGAN(dataclasses.replace(vocoder.config, ranks=tuple(ranks)))
    for name in ("pre", "up", "post"):
        getattr(made, name).load_state_dict(getattr(vocoder, name).state_dict())
    for old, new, layer, rank in zip(_convolutions(vocoder), _convolutions(made), layers, ranks, strict=True):
        if not rank:
            new.load_state_dict(old.state_dict())
            continue
        vectors, mean = layer.components.vectors[:, :rank].float(), layer.components.mean.float()
        new[0].weight.copy_(torch.einsum("cr,cik->rik", vectors, old.weight))
        new[1].weight.copy_(vectors[:, :, None])
        new[1].bias.copy_(mean + vectors @ (vectors.T @ (old.bias - mean)))
    return made


def _convolutions(vocoder: HiFiGAN) -> list[Any]:
    """In the order of `ranks`."""
    blocks = itertools.chain.from_iterable(vocoder.blocks)  # type: ignore[arg-type]
    return [layer for block in blocks for pair in zip(block.dilated, block.plain, strict=True) for layer in pair]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("whole", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path, help="to write")
    parser.add_argument("--share", type=float, default=0.55)
    arguments = parser.parse_args()
    vocoder: Any = checkpoint.load(arguments.whole, expect=("hifigan",))
    clips = manifest.select(manifest.read(arguments.data / manifest.NAME), "train", ["A"])
    recordings = Recordings.load([Path(clip.path) for clip in clips], vocoder.config.sample_rate)
    generator = torch.Generator().manual_seed(0)
    crops = [recordings.crop(FRAMES * vocoder.config.hop_length, generator) for _ in range(CROPS)]
    with torch.inference_mode():
        levels = [vocoder.mel(crop[None]) for crop in crops]
    layers = splits(vocoder, *listen(vocoder, levels))
    last = len(layers) // len(vocoder.config.upsample_rates)
    ranks = shared_out(layers, arguments.share, last)
    made = narrowed(vocoder, layers, ranks)
    header = checkpoint.read_header(arguments.whole)["source"]
    header["narrowed"] = f"to {arguments.share:.0%} of the multiplications of its residual blocks"
    checkpoint.save(arguments.folder, made, header, torch.float16)
    count = sum(parameter.numel() for parameter in made.parameters())
    print(f"{count / 1e6:.1f} M parameters, between {min(rank for rank in ranks if rank)} and {max(ranks)} channels")


if __name__ == "__main__":
    main()
