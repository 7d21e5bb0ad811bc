"""Training examples for text to sound, made on the fly from recordings in memory: what AudioGen does (2209.15352, 3.2),
with placing, repeating, and captions that say so.

Example `index` of epoch `epoch` is a function of (seed, epoch, index) alone:

    draw a recording, balanced over classes
    render it: crop a long one, loop a steady one, repeat a short one at random intervals; vary pitch, speed and level
    perhaps draw another, and mix it in at an SNR of U[-5, 5] dB, or put it behind the first
    word the caption accordingly
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import soxr
import torch
from numpy.random import Generator
from torch import Tensor

from audiogen_cli.data import captions
from audiogen_cli.data.captions import Part
from audiogen_cli.errors import InputError

_BLOCK_SECONDS = 0.05
_LOOP_SECONDS = 0.6  # a shorter one is repeated with gaps, steady or not
_PEAK = 0.95
_LOUDEST_GAIN_DB = 40.0


class Waveforms(Protocol):
    """Recordings in memory: float [C, N] or [N] by index, all at one sample rate. A list of tensors is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor: ...


@dataclass(frozen=True)
class SegmentConfig:
    """How examples are made. Levels are the RMS of what sounds, silence left out, in dBFS.

    balance: a class with n seconds (10 at most from each recording) is drawn n^balance times as often as one with 1.
    """

    sample_rate: int = 16_000
    seconds: float = 5.0
    mix_probability: float = 0.35
    sequence_probability: float = 0.2  # of the mixtures: one after the other instead of at once
    snr_db: tuple[float, float] = (-5.0, 5.0)
    pitch_semitones: float = 2.0  # resampled, so that speed goes with it
    level_db: tuple[float, float] = (-26.0, -16.0)
    repeat_below_seconds: float = 2.5
    balance: float = 0.75
    widen: bool = True

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.sample_rate <= 0:
            raise ValueError("seconds and sample_rate must be above 0.")

    @property
    def samples(self) -> int:
        return round(self.seconds * self.sample_rate)


# For validation: one recording at a time, its caption as it is, neither pitch nor level varied.
PLAIN = SegmentConfig(mix_probability=0.0, pitch_semitones=0.0, level_db=(-20.0, -20.0), widen=False)


class Example(NamedTuple):
    """waveform: float32 [1, N], its peak below 1. keys: the classes (captions.class_key) that are heard in it."""

    waveform: Tensor
    caption: str
    keys: tuple[str, ...]


class _Sound(NamedTuple):
    """A rendered recording: samples [n], and how often it is heard (0: without a break)."""

    samples: np.ndarray
    part: Part


class Segments(torch.utils.data.Dataset[Example]):
    """Examples of one epoch by index, or of any epoch by `example`; as many to an epoch as there are recordings."""

    def __init__(
        self,
        waveforms: Waveforms,
        labels: Sequence[str],
        config: SegmentConfig,
        seed: int = 0,
        epoch: int = 0,
        weights: Sequence[float] | None = None,
    ) -> None:
        """labels: the caption of each recording. Raises InputError when there are none or the counts differ."""
        if not labels or len(labels) != len(waveforms):
            raise InputError(f"{len(waveforms)} recordings and {len(labels)} captions; give one caption to each.")
        self.waveforms, self.labels, self.config, self.seed, self.epoch = waveforms, list(labels), config, seed, epoch
        self.keys = [captions.class_key(label) for label in labels]
        self._steady = [captions.is_steady(label) for label in labels]
        self._alike: dict[str, list[int]] = {}
        for index, label in enumerate(labels):
            self._alike.setdefault(label, []).append(index)
        seconds = [waveforms[i].shape[-1] / config.sample_rate for i in range(len(labels))]
        raw = weights if weights is not None else balanced(self.keys, seconds, config.balance)
        self.probabilities = np.asarray(raw, dtype=np.float64) / np.sum(raw)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        return self.example(self.epoch, index)

    def example(self, epoch: int, index: int) -> Example:
        """The same for the same (seed, epoch, index), on every machine and in every order."""
        rng = np.random.default_rng((self.seed, epoch, index))
        first = self._draw(rng)
        if rng.random() < self.config.mix_probability and (second := self._draw_other(first, rng)) is not None:
            return self.pair(first, second, rng.random() < self.config.sequence_probability, rng)
        sound = self._render(first, self.config.samples, rng)
        return self._example(sound.samples, self._worded(sound.part, rng), (self.keys[first],), rng)

    def pair(self, first: int, second: int, following: bool, rng: Generator) -> Example:
        """Two recordings by index, at once or one after the other."""
        samples, caption = (self._follow if following else self._mix)(first, second, rng)
        return self._example(samples, caption, (self.keys[first], self.keys[second]), rng)

    def _example(self, samples: np.ndarray, caption: str, keys: tuple[str, ...], rng: Generator) -> Example:
        samples = leveled(samples, rng.uniform(*self.config.level_db), self.config.sample_rate)
        return Example(torch.from_numpy(samples.astype(np.float32))[None], caption, keys)

    def _worded(self, part: Part, rng: Generator) -> str:
        return captions.widen(part.caption, rng, part.times) if self.config.widen else part.caption

    def _draw(self, rng: Generator) -> int:
        return int(rng.choice(len(self.labels), p=self.probabilities))

    def _draw_other(self, first: int, rng: Generator) -> int | None:
        """A recording of another class; None when chance does not find one."""
        drawn = (self._draw(rng) for _ in range(8))
        return next((index for index in drawn if self.keys[index] != self.keys[first]), None)

    def _mix(self, first: int, second: int, rng: Generator) -> tuple[np.ndarray, str]:
        """Both at once; the SNR is that of the first over the second while they sound."""
        rate = self.config.sample_rate
        one, two = (self._render(index, self.config.samples, rng) for index in (first, second))
        snr_db = rng.uniform(*self.config.snr_db)
        mixed = leveled(one.samples, -20.0, rate, peak=None) + leveled(two.samples, -20.0 - snr_db, rate, peak=None)
        caption = (
            captions.mix(one.part, two.part, rng) if self.config.widen else f"{one.part.caption} and {two.part.caption}"
        )
        return mixed, caption

    def _follow(self, first: int, second: int, rng: Generator) -> tuple[np.ndarray, str]:
        """One after the other, each in about half of the window."""
        seam = round(self.config.samples * rng.uniform(0.4, 0.6))
        one = self._render(first, seam, rng)
        two = self._render(second, self.config.samples - seam, rng)
        levels = rng.uniform(-22.0, -18.0, size=2)
        pieces = [
            leveled(
                faded(sound.samples, round(0.02 * self.config.sample_rate)), level, self.config.sample_rate, peak=None
            )
            for sound, level in zip((one, two), levels, strict=True)
        ]
        caption = (
            captions.follow(one.part, two.part, rng)
            if self.config.widen
            else f"{one.part.caption} then {two.part.caption}"
        )
        return np.concatenate(pieces), caption

    def _render(self, index: int, samples: int, rng: Generator) -> _Sound:
        """[samples] of one recording: cropped, looped, repeated or placed as its length and kind ask for."""
        config, label = self.config, self.labels[index]
        ratio = 2 ** (rng.uniform(-config.pitch_semitones, config.pitch_semitones) / 12)
        steady = self._steady[index]
        source = self._samples(index)
        take = shifted(crop(source, round(samples * ratio) + 64, config.sample_rate, rng), ratio)
        if len(take) >= samples:
            return _Sound(take[:samples], Part(label, 0 if steady else 1))
        if steady and len(take) >= _LOOP_SECONDS * config.sample_rate:
            return _Sound(looped(take, samples, config.sample_rate, rng), Part(label, 0))
        if len(take) < config.repeat_below_seconds * config.sample_rate and config.widen:
            takes = [take, *self._siblings(index, ratio, rng)]
            out, times = repeated(takes, samples, config.sample_rate, rng)
            return _Sound(out, Part(label, times))
        return _Sound(placed(take, samples, rng), Part(label, 1))

    def _siblings(self, index: int, ratio: float, rng: Generator) -> list[np.ndarray]:
        """Up to three more takes with the same caption and about the same length: a second footstep is another one."""
        if rng.random() < 0.5:
            return []
        length = self.waveforms[index].shape[-1]
        same = [i for i in self._alike[self.labels[index]] if i != index]
        alike = [i for i in same if 0.5 < self.waveforms[i].shape[-1] / length < 2.0]
        chosen = rng.permutation(len(alike))[:3]
        return [shifted(self._samples(alike[int(i)]), ratio) for i in chosen]

    def _samples(self, index: int) -> np.ndarray:
        waveform = self.waveforms[index]
        if waveform.dim() == 2:
            waveform = waveform[0] if len(waveform) == 1 else waveform.mean(dim=0)
        return waveform.float().numpy()


def balanced(keys: Sequence[str], seconds: Sequence[float], balance: float) -> list[float]:
    """Weights of recordings such that a class's share grows with the power `balance` of its seconds.

    A recording counts for 0.5 to 10 seconds, a class for 400 at most; within a class the root of its seconds decides.
    """
    counted = [min(10.0, max(0.5, s)) for s in seconds]
    total: dict[str, float] = {}
    roots: dict[str, float] = {}
    for key, count in zip(keys, counted, strict=True):
        total[key] = total.get(key, 0.0) + count
        roots[key] = roots.get(key, 0.0) + count**0.5
    return [min(400.0, total[k]) ** balance * c**0.5 / roots[k] for k, c in zip(keys, counted, strict=True)]


def active_rms(samples: np.ndarray, sample_rate: int) -> float:
    """RMS over the blocks of 50 ms that are at most 20 dB below the loudest one; 0.0 for silence."""
    block = max(1, round(_BLOCK_SECONDS * sample_rate))
    whole = len(samples) // block * block
    blocks = samples[:whole].reshape(-1, block)
    power = np.einsum("ij,ij->i", blocks, blocks) / block
    if whole < len(samples):
        power = np.append(power, np.square(samples[whole:]).sum() / block)
    return float(np.sqrt(power[power >= power.max() / 100].mean())) if len(power) else 0.0


def leveled(samples: np.ndarray, level_db: float, sample_rate: int, peak: float | None = _PEAK) -> np.ndarray:
    """Gain to an active RMS of `level_db` dBFS, at most +40 dB, then as much less as the peak asks for."""
    rms = active_rms(samples, sample_rate)
    if rms == 0.0:
        return samples
    scaled = samples * min(10 ** (level_db / 20) / rms, 10 ** (_LOUDEST_GAIN_DB / 20))
    highest = float(np.abs(scaled).max())
    return scaled * (peak / highest) if peak is not None and highest > peak else scaled


def crop(samples: np.ndarray, length: int, sample_rate: int, rng: Generator) -> np.ndarray:
    """At most `length` samples from a random place, preferring (eight tries) one that is not a pause."""
    if len(samples) <= length:
        return samples
    usual = active_rms(samples, sample_rate)
    for _ in range(8):
        start = int(rng.integers(len(samples) - length + 1))
        piece = samples[start : start + length]
        if active_rms(piece, sample_rate) >= usual / 10:  # -20 dB
            break
    return piece


def shifted(samples: np.ndarray, ratio: float) -> np.ndarray:
    """Pitch and speed times `ratio`."""
    if ratio == 1.0 or not len(samples):
        return samples
    return soxr.resample(samples, ratio, 1.0, quality="MQ")


def faded(samples: np.ndarray, count: int) -> np.ndarray:
    """Raised-cosine ends of `count` samples."""
    count = min(count, len(samples) // 2)
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(count) + 0.5) / max(1, count))
    out = samples.copy()
    out[:count] *= ramp
    out[len(out) - count :] *= ramp[::-1]
    return out


def looped(samples: np.ndarray, length: int, sample_rate: int, rng: Generator) -> np.ndarray:
    """A steady sound repeated without a gap, each seam an equal-power cross-fade of up to 0.25 s."""
    overlap = min(round(0.25 * sample_rate), len(samples) // 3)
    angle = np.pi / 2 * (np.arange(overlap) + 0.5) / max(1, overlap)
    body = samples.copy()
    body[:overlap] *= np.sin(angle)
    body[len(body) - overlap :] *= np.cos(angle)
    step = len(samples) - overlap
    out = np.zeros(length + 2 * len(samples), dtype=samples.dtype)
    for start in range(0, length + step, step):
        out[start : start + len(body)] += body
    first = int(rng.integers(overlap, len(samples)))  # past the first fade-in
    return out[first : first + length]


def placed(samples: np.ndarray, length: int, rng: Generator) -> np.ndarray:
    """Inside silence, half of the time right at the start."""
    start = int(rng.integers(length - len(samples) + 1)) if rng.random() < 0.5 else 0
    out = np.zeros(length, dtype=samples.dtype)
    out[start : start + len(samples)] = samples
    return out


def repeated(takes: Sequence[np.ndarray], length: int, sample_rate: int, rng: Generator) -> tuple[np.ndarray, int]:
    """A short sound once, twice, three times or until the end, with gaps that wander; returns the count as well.

    Every repetition is another take where there is one, and varies by 2 dB and a third of a semitone.
    """
    wanted = int(rng.choice([1, 2, 3, length], p=[0.25, 0.2, 0.15, 0.4]))
    gap = rng.uniform(0.05, 0.8) * sample_rate
    start, times = min(round(rng.exponential(0.15) * sample_rate), length - min(length, len(takes[0]))), 0
    out = np.zeros(length, dtype=np.float32)
    while times < wanted:
        take = shifted(takes[times % len(takes)], 2 ** (rng.uniform(-0.3, 0.3) / 12))
        take = take[: length - start] if times == 0 else take
        if start + len(take) > length or not len(take):
            break
        out[start : start + len(take)] += take * 10 ** (rng.uniform(-2.0, 0.0) / 20)
        start += len(take) + round(gap * rng.uniform(0.7, 1.3))
        times += 1
    return out, times
