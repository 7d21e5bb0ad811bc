# ruff: noqa: T201  (a script that reports to whoever runs it)
"""Where a mel codec loses what the tagger recognises: held-out recordings, their mel spectrograms, and their codes.

    python weights/build/ceilings.py PREPARED CODEC.. [--codebooks 0 8 12] [--each 6] [--vocoder]

PREPARED: of `audiolm prepare`. CODEC: folders of mel codecs; 0 codebooks are its latents, not quantized. Mels are made
audible with random phases, turned up and down as the vocoder's sound is, in seconds where the vocoder takes minutes
(--vocoder is the program's own way). Such phases fluctuate by themselves: compare decoders with a texture and without
one through the vocoder. Prints the mean over the evaluation's prompts and the share of recordings that are recognised.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiogen_cli.data import audio
from audiogen_cli.hub import checkpoint
from audiogen_cli.metrics.tagger import SAMPLE_RATE, Tagger, among_first
from audiogen_cli.models.mel import MelCodec
from audiogen_cli.pipelines import listening
from audiogen_cli.pipelines.listening import at_level, mono, placed

SECONDS = 5.0


def coded(codec: MelCodec, level: Tensor, num_codebooks: int) -> Tensor:
    latent = codec.encoder(level)
    if num_codebooks:
        latent = codec.quantizer.decode(codec.quantizer.encode(latent, num_codebooks))
    start = torch.zeros(1, dtype=torch.int64)
    return codec.textured(codec.decoder(latent, start), start)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("codecs", type=Path, nargs="+")
    parser.add_argument("--codebooks", type=int, nargs="+", default=[0, 8, 12])
    parser.add_argument("--each", type=int, default=6, help="recordings of a prompt, at most")
    parser.add_argument("--vocoder", action="store_true")
    arguments = parser.parse_args()
    codecs: list[Any] = [checkpoint.load(folder, expect=("mel",)) for folder in arguments.codecs]
    rate, tagger = codecs[0].sample_rate, Tagger()

    def sound(level: Tensor) -> Tensor:
        made = codecs[0].sound(level)[0] if arguments.vocoder else codecs[0].scattered(level)
        return mono(made, rate)[: round(SECONDS * SAMPLE_RATE)]

    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "as recorded": lambda waveform: waveform,
        "mels": lambda waveform: sound(codecs[0].level(at_rate(waveform))),
    }
    for folder, codec in zip(arguments.codecs, codecs, strict=True):
        for count in arguments.codebooks:
            ways[f"{folder}, {count} codebooks"] = lambda waveform, codec=codec, count=count: sound(  # type: ignore[misc]
                coded(codec, codec.level(at_rate(waveform)), count)
            )

    def at_rate(waveform: Tensor) -> Tensor:
        return audio.resample(waveform[None], SAMPLE_RATE, rate)[None]

    prompts = listening.read_prompts(Path(__file__).parent / "eval_prompts.csv")
    recordings = [recording for recording in listening.read_recordings(arguments.prepared) if recording.held_out]
    hits: dict[str, list[list[bool]]] = {name: [] for name in ways}
    for prompt in prompts:
        fitting = [recording for recording in recordings if prompt.caption.search(recording.caption)][: arguments.each]
        examples = [placed(listening.read(recording.path), recording, SECONDS) for recording in fitting]
        classes = tagger.indices(prompt.classes)
        for name, way in ways.items() if examples else ():
            heard = [tagger.scores(at_level(way(example))) for example in examples]
            hits[name].append([among_first(scores, classes) for scores in heard])
    for name, found in hits.items():
        mean = sum(sum(each) / len(each) for each in found) / len(found)
        count = sum(len(each) for each in found)
        print(f"{name}: {mean:.3f} over {len(found)} prompts, {sum(map(sum, found)) / count:.3f} of {count} recordings")


if __name__ == "__main__":
    main()
