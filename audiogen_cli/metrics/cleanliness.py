"""What is wrong with a sound whatever it shows: clicks, hum, silence, clipping, and its level.

Every one of these occurs in good recordings too (a fire clicks, a transformer hums), so a share of flawed sounds means
something only beside the same share of recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from audiogen_cli.data.segments import active_rms
from audiogen_cli.ops.stft import stft

SILENT_DB = -50.0
CLICK_RATIO = 10.0  # Gaussian noise of 5 s reaches 6
HUM_SHARE, HUM_LINES = 0.05, 3
MAINS_HZ = (50, 60)  # and with them 100 and 120, and the frame rate of codecs with 50 frames a second
_PAUSE_DB = 40.0
_HIGHEST_HZ = 4000


class Flaws(NamedTuple):
    """level_db: RMS of what sounds, in dBFS. clipped: a sample in a thousand, or more, at full scale. clicks: how many.
    pauses: the share of time 40 dB and more below the level. hum: the share of energy in a comb of steady lines."""

    level_db: float
    clipped: bool
    clicks: int
    pauses: float
    hum: float


@dataclass(frozen=True)
class Cleanliness:
    """Of a set of sounds. level_db: its 5 %, 50 % and 95 % quantiles. in_range: the share of levels between the outer
    two of the recordings; None without any. silent, clipped, clicking, humming: shares of the sounds; pauses: a mean.
    """

    name: str
    sounds: int
    level_db: tuple[float, float, float]
    in_range: float | None
    silent: float
    clipped: float
    clicking: float
    humming: float
    pauses: float


def inspect(waveform: Tensor, sample_rate: int) -> Flaws:
    """waveform [N]."""
    samples = waveform.numpy()
    rms = active_rms(samples, sample_rate)
    return Flaws(
        level_db=20 * float(np.log10(max(rms, 1e-6))),
        clipped=bool((waveform.abs() >= 0.999).float().mean() >= 1e-3),
        clicks=count_clicks(waveform, sample_rate),
        pauses=pause_share(samples, sample_rate, rms),
        hum=hum_share(waveform, sample_rate),
    )


def summary(name: str, flaws: Sequence[Flaws], usual: Sequence[Flaws] = ()) -> Cleanliness:
    """flaws: of each sound, at least one. usual: those of the recordings that set the range of levels."""
    levels = _quantiles(flaws)
    low, _, high = _quantiles(usual) if usual else (0.0, 0.0, 0.0)
    count = len(flaws)
    return Cleanliness(
        name=name,
        sounds=count,
        level_db=levels,
        in_range=sum(low <= flaw.level_db <= high for flaw in flaws) / count if usual else None,
        silent=sum(flaw.level_db < SILENT_DB for flaw in flaws) / count,
        clipped=sum(flaw.clipped for flaw in flaws) / count,
        clicking=sum(flaw.clicks > 0 for flaw in flaws) / count,
        humming=sum(flaw.hum > HUM_SHARE for flaw in flaws) / count,
        pauses=sum(flaw.pauses for flaw in flaws) / count,
    )


def count_clicks(waveform: Tensor, sample_rate: int) -> int:
    """How often waveform [N] jumps alone: second differences of ten times their level in the 10 ms before and after.

    An attack is no click, for it is loud after it; nor is a jump 14 dB and more below the sound's own level.
    """
    samples = waveform.double().numpy()
    jump = np.abs(np.diff(samples, 2))
    reach, gap = round(0.01 * sample_rate), 4
    if len(jump) < 2 * (reach + gap):
        return 0
    padded = np.pad(np.square(jump), reach + gap)
    total = np.concatenate([[0.0], np.cumsum(padded)])
    means = np.maximum(total[reach:] - total[:-reach], 0.0) / reach  # [i] is that of padded[i : i + reach]
    around = np.maximum(means[: len(jump)], means[reach + 2 * gap + 1 :][: len(jump)])
    floor = 0.02 * active_rms(samples, sample_rate)
    places = np.flatnonzero(jump > CLICK_RATIO * (np.sqrt(around) + floor))
    return int(len(places) > 0) + int((np.diff(places) > reach).sum())


def pause_share(samples: np.ndarray, sample_rate: int, rms: float | None = None) -> float:
    """The share of the time of samples [N] that is 40 dB and more below the level of what sounds (rms, if it is known),
    in blocks of 50 ms."""
    level = active_rms(samples, sample_rate) if rms is None else rms
    block = max(1, round(0.05 * sample_rate))
    blocks = samples[: max(1, len(samples) // block) * block]
    blocks = blocks.reshape(-1, min(block, len(blocks)))
    return float((np.square(blocks).mean(axis=1) <= (level * 10 ** (-_PAUSE_DB / 20)) ** 2).mean())


def hum_share(waveform: Tensor, sample_rate: int) -> float:
    """The share of the energy of waveform [N] that stands out in lines at multiples of 50 or of 60 Hz, up to 4 kHz.

    A line stands 10 dB above the median of the 20 Hz on both sides. Fewer than three are a tone, not a hum: 0.0, as for
    sounds below one second, whose lines are too wide to tell.
    """
    if len(waveform) < sample_rate:
        return 0.0
    power = stft(waveform.double(), sample_rate, sample_rate // 2).abs().square().mean(dim=-1)  # [F], a bin for each Hz
    return max(_comb(power, spacing) for spacing in MAINS_HZ) / max(float(power.sum()), 1e-30)


def _comb(power: Tensor, spacing: int) -> float:
    """The energy in the lines at multiples of `spacing` bins; 0.0 when there are fewer than three."""
    centres = torch.arange(spacing, min(_HIGHEST_HZ, len(power) - 21) + 1, spacing)
    near = power[centres[:, None] + torch.arange(-20, 21)]  # [lines, 41]
    line, sides = near[:, 18:23], torch.cat([near[:, :16], near[:, 25:]], dim=1)
    around = sides.median(dim=1).values
    standing = line.amax(dim=1) > 10 * around
    return float((line.sum(dim=1) - 5 * around)[standing].sum()) if int(standing.sum()) >= HUM_LINES else 0.0


def _quantiles(flaws: Sequence[Flaws]) -> tuple[float, float, float]:
    levels = torch.tensor([flaw.level_db for flaw in flaws], dtype=torch.float64)
    low, middle, high = levels.quantile(torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)).tolist()
    return low, middle, high
