"""Trains one small codec with every quantizer for the same processor time, and prints what held-out sounds lose.

    python tests/benchmarks/quantizers.py FOLDER --seconds 60

FOLDER is prepared by `audiolm prepare`. All spend 4 kbps, but for the 0.3 % that 1000 codes are fewer than 1024.

The codec codes magnitudes and borrows the input's phases, so that what differs is what the quantizer lost, after a
minute already: phases of its own take hours to learn, and until then the signal-to-noise ratio says nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from audiogen_cli.data import manifest
from audiogen_cli.metrics import similarity
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.spectral import SpectralConfig
from audiogen_cli.quantizers.choice import QuantizerChoice
from audiogen_cli.training import data
from audiogen_cli.training.codec import CodecRecipe, CodecTask, CodecTrainingConfig, validation_pieces
from audiogen_cli.training.codec_losses import CodecLossConfig
from audiogen_cli.training.loop import LoopConfig, train

CHOICES = {
    "RVQ, straight through": QuantizerChoice(),
    "RVQ, rotation trick": QuantizerChoice(rotation_trick=True),
    "RVQ, codes sampled at temperature 0.1": QuantizerChoice(sample_temperature=0.1),
    "grouped RVQ, 2 groups of 4": QuantizerChoice(groups=2),
    "FSQ, 8 groups": QuantizerChoice("fsq", groups=8),
    "residual FSQ": QuantizerChoice("fsq"),
    "LFQ, 8 groups": QuantizerChoice("lfq", groups=8),
    "residual LFQ": QuantizerChoice("lfq"),
}
CODEBOOKS = 8


def recipe(choice: QuantizerChoice) -> CodecRecipe:
    spectral = SpectralConfig(
        encoder_dim=128,
        encoder_layers=2,
        decoder_dim=192,
        decoder_layers=2,
        subframe_dim=128,
        subframe_layers=1,
        latent_dim=64,
        num_codebooks=CODEBOOKS,
        phase="griffin-lim",
        quantizer=choice,
    )
    shares = CodecLossConfig(mel=0.0, stft=0.0, complex=0.0, commitment=0.05)
    training = CodecTrainingConfig(seconds=1.0, adversarial_start=10**9, losses=shares)
    loop = LoopConfig(
        steps=10**6, batch_size=4, learning_rate=2e-3, warmup_steps=20, schedule="constant", workers=0,
        precision="fp32", evaluate_every=10**6, save_every=10**6,
    )  # fmt: skip
    return CodecRecipe(spectral=spectral, training=training, loop=loop)


def trained(plan: CodecRecipe, sets: data.TrainingData, seconds: float) -> tuple[Codec, int]:
    """The codec and how many steps it made in so much processor time."""
    torch.manual_seed(0)
    task = CodecTask(plan, sets.train.recordings, [], {})
    steps, end = 0, time.process_time() + seconds
    with tempfile.TemporaryDirectory() as folder:
        for report in train(task, plan.loop, Path(folder), {}):
            steps = report.step
            if time.process_time() >= end:
                break
    return task.codec.eval(), steps


@torch.no_grad()
def measured(codec: Codec, pieces: list[torch.Tensor]) -> tuple[float, float, float, float]:
    """SI-SNR in dB, mel distance, and the mean over codebooks of perplexity and of the share of codes used."""
    snr, mel, codes = [], [], []
    for piece in pieces:
        decoded, found, *_ = codec(piece[None])
        snr.append(float(similarity.si_snr(piece[None], decoded).mean()))
        mel.append(float(similarity.mel_distance(piece[None], decoded, codec.sample_rate)))
        codes.append(found)
    usage = similarity.codebook_usage(torch.cat(codes, -1), codec.codebook_size)
    mean = [sum(values) / len(values) for values in (snr, mel, [u.perplexity for u in usage], [u.used for u in usage])]
    return mean[0], mean[1], mean[2], mean[3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0, help="processor time of each training")
    parser.add_argument("--tier", action="append", help="of the manifest; may be repeated")
    parser.add_argument("--clips", type=int, default=400, help="training recordings, spread over all of them")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clips = data.find_clips(options.folder, options.tier or ())
    train_clips = manifest.select(clips, "train")
    chosen = train_clips[:: max(1, len(train_clips) // options.clips)][: options.clips]
    sets = data.load([*chosen, *manifest.select(clips, "valid")], 16_000, 1)
    pieces = validation_pieces(sets.valid.recordings, 16_000, count=40)
    write = sys.stdout.write
    heard = sum(piece.shape[-1] for piece in pieces) / 16_000
    write(f"{len(chosen)} training recordings, {len(pieces)} held out ({heard:.0f} s), {options.seconds:g} s each\n\n")
    write("| Quantizer | Steps | SI-SNR, dB | Mel distance | Perplexity | Codes used |\n|---|---|---|---|---|---|\n")
    for name, choice in CHOICES.items():
        codec, steps = trained(recipe(choice), sets, options.seconds)
        snr, mel, perplexity, used = measured(codec, pieces)
        size = codec.codebook_size
        write(f"| {name} | {steps} | {snr:.2f} | {mel:.4f} | {perplexity:.0f} of {size} | {100 * used:.0f} % |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
