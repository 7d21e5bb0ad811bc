# ruff: noqa: T201  (a script that reports to whoever runs it)
"""Makes weights/hifigan/vocoder of what build/narrow_hifigan.py wrote: all stages but the first are replaced by a
`tail` (models/hifigan.py), which learns to make the waveform that the whole generator makes of the same mel
spectrogram.

    python weights/build/shorten_hifigan.py WHOLE NARROW DATA weights/hifigan/vocoder --work FOLDER

WHOLE, NARROW: the generator, and its narrow one. DATA: of `audiolm prepare`; of it only what the bundled models were
trained on. The work folder keeps the examples and the state, from which a run that was stopped goes on. Half of the
examples are mel spectrograms of recordings, half what the codec of sounds-small leaves of them. The first stage stays
as it is. Loss: the spectra of three windows, compressed (magnitudes to the power of 0.4), with their phases and
without, as speech enhancement does (2009.12286); and the mel spectrogram that was asked for. Forty minutes on two
cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audiogen_cli.data import manifest
from audiogen_cli.data.recordings import Recordings
from audiogen_cli.hub import catalog, checkpoint
from audiogen_cli.models.hifigan import HiFiGAN, TailConfig
from audiogen_cli.models.mel import MEAN, SPREAD
from audiogen_cli.ops.stft import frame_stft

FRAMES, SPEECH = 128, 0.2  # of an example; the share of examples that are speech
HELD = 24  # examples that are not learned from
BATCH, LENGTH, CUT = 8, 32, 3  # crops of a step; their mel frames, and those at either end that are not compared
WINDOWS, POWER = (128, 512, 1024), 0.4
RATE = 1e-3  # of learning, at its highest
LEVELS = 0.05  # what a nat of the mel spectrogram weighs
PEAK = (-1.25, -0.05)  # log10 of an example's peak, from and to


@torch.no_grad()
def examples(whole: HiFiGAN, data: Path, count: int) -> dict[str, Tensor]:
    """ "mel" [count, M, FRAMES] and what the whole generator makes of them, "wave" [count, N], in 16 bits."""
    codec: Any = catalog.load("sounds-small").codec
    clips = manifest.select(manifest.read(data / manifest.NAME), "train", ["A"])
    kinds = [[clip for clip in clips if ("speech" in str(clip.path)) is speech] for speech in (True, False)]
    speech, sounds = (Recordings.load([Path(clip.path) for clip in kind], whole.config.sample_rate) for kind in kinds)
    generator = torch.Generator().manual_seed(0)
    mels, waves = [], []
    for number in range(count):
        kind = speech if float(torch.rand(1, generator=generator)) < SPEECH else sounds
        crop = kind.crop(FRAMES * whole.config.hop_length, generator)
        peak = 10 ** (PEAK[0] + (PEAK[1] - PEAK[0]) * float(torch.rand(1, generator=generator)))
        crop = (crop / crop.abs().max().clamp_min(1e-3) * peak)[None]
        mel = codec._levels_of(codec.latents(crop)) * SPREAD + MEAN if number % 2 else whole.mel(crop)
        mels.append(mel[0].half())
        waves.append(whole(mel)[0, 0].half())
    return {"mel": torch.stack(mels), "wave": torch.stack(waves)}


def shortened(narrow: HiFiGAN) -> HiFiGAN:
    """Its first stage, and a tail that knows nothing yet."""
    old = narrow.config
    ranks = old.ranks[: len(old.ranks) // len(old.upsample_rates)]
    first = {"upsample_rates": old.upsample_rates[:1], "upsample_kernels": old.upsample_kernels[:1], "ranks": ranks}
    made = HiFiGAN(dataclasses.replace(old, **first, tail=TailConfig()))
    made.pre.load_state_dict(narrow.pre.state_dict())
    made.up[0].load_state_dict(narrow.up[0].state_dict())
    made.blocks[0].load_state_dict(narrow.blocks[0].state_dict())
    with torch.no_grad():
        for layer in made.post.layers:  # type: ignore[union-attr]
            layer.weight.mul_(0.5)
        made.post.post.weight.mul_(0.3)  # type: ignore[union-attr]
    return made.requires_grad_(True)


def compressed(waveform: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """waveform [B, N] -> its spectrum [B, F, T] with magnitudes to the power of 0.4, and these."""
    spectrum = frame_stft(waveform, window, window // 4) * (4 / window)
    energy = spectrum.real.square() + spectrum.imag.square() + 1e-8
    return spectrum * energy ** ((POWER - 1) / 2), energy ** (POWER / 2)


def distance(made: Tensor, wanted: Tensor) -> Tensor:
    total = torch.zeros(())
    for window in WINDOWS:
        (spectrum, magnitude), (other, loudness) = compressed(made, window), compressed(wanted, window)
        apart = spectrum - other
        total = total + (apart.real.square() + apart.imag.square() + 1e-8).sqrt().mean()
        total = total + (magnitude - loudness).abs().mean()
    return total


def snr(made: Tensor, wanted: Tensor) -> list[float]:
    """Medians over waveforms [B, N], dB, below 0.5, 1, 2, 4 kHz and above."""
    a, b = frame_stft(made, 1024, 256), frame_stft(wanted, 1024, 256)
    found, low = [], 0
    for hertz in (500, 1000, 2000, 4000, 11025):
        high = round(hertz / 22050 * 1024)
        signal = b[:, low:high].abs().square().sum((1, 2))
        noise = (a - b)[:, low:high].abs().square().sum((1, 2))
        found.append(round(float((10 * (signal / noise.clamp_min(1e-9)).clamp_min(1e-9).log10()).median()), 1))
        low = high
    return found


class Course:
    def __init__(self, vocoder: HiFiGAN, steps: int) -> None:
        self.vocoder, self.steps, self.done = vocoder, steps, 0
        self.optimizer = torch.optim.AdamW(vocoder.post.parameters(), RATE, (0.8, 0.99), weight_decay=0.0)

    def step(self, made: Tensor, wave: Tensor, mel: Tensor) -> float:
        """made, wave: [B, N] as it is and as it should be; mel: what was asked for, [B, M, T]."""
        rate = RATE * min(1.0, (self.done + 1) / 50) * (1 - self.done / self.steps) ** 0.5
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        levels = (self.vocoder.mel(made[:, None]) - mel)[..., 2:-2].abs().mean()  # the ends hear what was cut off
        loss = distance(made, wave) + LEVELS * levels
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.vocoder.post.parameters(), 1.0)
        self.optimizer.step()
        self.done += 1
        return float(loss.detach())


class Crops:
    """Of the examples, those that are learned from. What lies near the ends of a crop is not compared: there the layers
    do not hear what they would."""

    def __init__(self, known: dict[str, Tensor], vocoder: HiFiGAN) -> None:
        self.mel, self.wave = known["mel"][HELD:], known["wave"][HELD:]
        self.vocoder, self.hop = vocoder, vocoder.config.hop_length
        self.stage = vocoder.config.upsample_rates[0]
        with torch.inference_mode():
            self.first = torch.cat([vocoder.staged(mel[None].float()).half() for mel in self.mel])

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """What the tail makes, what it should make, and the mel that was asked for."""
        rows = torch.randint(len(self.mel), (BATCH,), generator=generator)
        start = int(torch.randint(FRAMES - LENGTH + 1, (1,), generator=generator))
        first = self.first[rows, ..., start * self.stage : (start + LENGTH) * self.stage].float()
        made = self.vocoder.post(first.contiguous(memory_format=torch.channels_last)).tanh()[:, 0]
        low, high = start + CUT, start + LENGTH - CUT
        wave = self.wave[rows, low * self.hop : high * self.hop].float()
        return made[:, CUT * self.hop : -CUT * self.hop], wave, self.mel[rows, :, low:high].float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("whole", type=Path)
    parser.add_argument("narrow", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path, help="to write")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=800)
    parser.add_argument("--steps", type=int, default=3000)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    whole, narrow = (checkpoint.load(path, expect=("hifigan",)) for path in (given.whole, given.narrow))
    cache, state = given.work / "examples.pt", given.work / "state.pt"
    if not cache.exists():
        torch.save(examples(whole, given.data, given.examples), cache)  # type: ignore[arg-type]
    known = torch.load(cache)
    held, sounding = known["mel"][:HELD].float(), known["wave"][:HELD].float()

    vocoder = shortened(narrow)  # type: ignore[arg-type]
    crops, course = Crops(known, vocoder), Course(vocoder, given.steps)
    if state.exists():
        saved = torch.load(state)
        vocoder.post.load_state_dict(saved["tail"])
        course.optimizer.load_state_dict(saved["optimizer"])
        course.done = saved["done"]
    start, losses = time.monotonic(), []
    while course.done < course.steps:
        losses.append(course.step(*crops.draw(torch.Generator().manual_seed(course.done))))
        if course.done % 100 == 0:
            with torch.inference_mode():
                made = vocoder(held)[:, 0]
                apart, bands = float(distance(made, sounding)), snr(made, sounding)
            mean, seconds = sum(losses[-100:]) / len(losses[-100:]), time.monotonic() - start
            print(course.done, f"{mean:.4f} held out {apart:.4f} {bands} {seconds:.0f} s", flush=True)
            parts = {"tail": vocoder.post.state_dict(), "optimizer": course.optimizer.state_dict()}
            torch.save(parts | {"done": course.done}, state.with_suffix(".new"))
            state.with_suffix(".new").rename(state)
    header = checkpoint.read_header(given.narrow)["source"]
    header["shortened"] = "to its first stage and a tail that learned from the whole one"
    checkpoint.save(given.folder, vocoder, header, torch.float16)
    print(f"{sum(parameter.numel() for parameter in vocoder.parameters()) / 1e6:.1f} M parameters")


if __name__ == "__main__":
    main()
