"""Whether a continued recording stays what it was: its spectrum beside the prompt's, the seam, and what follows.

    recording  |---- prompt ----|---- its own rest ----|
    continued  |---- prompt ----|------ new sound -----|     new sound to its own prompt, and to all other sources'

The distance is between two long-term spectra: the mean of log-mel frames that sound, without the level, in dB. A
recording's own rest says how near a sound can be that is of one piece with the prompt; another source's prompt is the
shuffled control.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, NamedTuple

import torch
from torch import Tensor

from audiogen_cli.data import audio
from audiogen_cli.errors import InputError
from audiogen_cli.metrics.cleanliness import SILENT_DB, count_clicks, inspect
from audiogen_cli.metrics.moonshine import SAMPLE_RATE
from audiogen_cli.models.decoding import Sampling, finish
from audiogen_cli.ops.stft import log_mel
from audiogen_cli.pipelines import audiolm
from audiogen_cli.pipelines import generate as plain
from audiogen_cli.pipelines.intelligibility import Listener, Progress, Transcribed

_FFT, _HOP, _BANDS, _FLOOR = 512, 160, 64, 1e-5
_QUIET_DB = 30.0  # below the loudest frame a frame does not sound
_SEAM_SECONDS = 0.05
_LEAST_SECONDS = 0.25  # of new sound, that it can be compared


@dataclass(frozen=True)
class Row:
    """Of the recordings' own rests, or of what a model made. distance, other: to the own prompt and to the prompts of
    other sources, dB. nearer: the share of pairs with another source's prompt in which the own one is the nearer.

    sounds: how many were compared; a model may end where the beginning ends, and then there is nothing to compare.
    silent: the share of sounds below -50 dBFS; pauses: the share of time far below the level; clicks: the share of
    seams with a click; kept: the share of prompts whose samples are all there. words: heard in a second of it.
    """

    name: str
    sounds: int
    distance: float
    other: float | None
    nearer: float | None
    silent: float
    pauses: float
    clicks: float
    kept: float
    words: float


class Piece(NamedTuple):
    """whole: the prompt and what follows, [N] at `rate`; seam: how many samples are the prompt's."""

    whole: Tensor
    seam: int
    rate: int

    @property
    def rest(self) -> Tensor:
        """[M] at 16 kHz."""
        return audio.resample(self.whole[None, self.seam :], self.rate, SAMPLE_RATE)[0]

    @property
    def prompt(self) -> Tensor:
        return audio.resample(self.whole[None, : self.seam], self.rate, SAMPLE_RATE)[0]


class How(NamedTuple):
    """Lengths of the beginnings and of the new sound; seed: of the first sound, the others count up; sampling: None is
    the pipeline's own."""

    prompt_seconds: float
    seconds: float
    seed: int = 0
    sampling: Sampling | None = None


def evaluate(
    model: Any, listener: Listener | None, recordings: Sequence[Transcribed], how: How
) -> Generator[Progress, None, list[Row]]:
    """Continues the beginnings of the recordings that are long enough: a row of their own rests and one of the model's.

    model: an AudioLM, or a Model of hub/catalog.py. Raises InputError when fewer than two are long enough.
    """
    real = [piece for one in recordings if (piece := _recorded(one, how.prompt_seconds)) is not None]
    sources = [one.source for one in recordings if _recorded(one, how.prompt_seconds) is not None]
    if len(real) < 2:
        raise InputError(
            f"fewer than 2 recordings are longer than a prompt of {how.prompt_seconds:g} s by half a second; "
            "shorten it."
        )
    made = list[Piece]()
    for number, piece in enumerate(real):
        yield Progress("continued", number, len(real))
        made.append(_continued(model, piece, how._replace(seed=how.seed + number)))
    kept = [torch.equal(a.whole[: a.seam], b.whole[: b.seam]) for a, b in zip(real, made, strict=True)]
    goes_on = [len(piece.whole) - piece.seam >= _LEAST_SECONDS * piece.rate for piece in made]
    if not any(goes_on):
        raise InputError("the model ends after every one of these beginnings; try another --seed, or other recordings.")
    heard, of = list(compress(made, goes_on)), list(compress(sources, goes_on))
    return [
        row("the recordings' own rest", real, sources, [True] * len(real), listener),
        row("continued", heard, of, list(compress(kept, goes_on)), listener),
    ]


def row(
    name: str, pieces: Sequence[Piece], sources: Sequence[str], kept: Sequence[bool], listener: Listener | None = None
) -> Row:
    """sources: of each piece. Where all are of one source, nothing can be told apart, and `other` is None."""
    rests, prompts = ([long_term(wave) for wave in waves] for waves in _halves(pieces))
    own, other, nearer = list[float](), list[float](), list[float]()
    for a, (rest, source) in enumerate(zip(rests, sources, strict=True)):
        near = distance(rest, prompts[a])
        far = [distance(rest, prompt) for prompt, stranger in zip(prompts, sources, strict=True) if stranger != source]
        own.append(near)
        other += far
        nearer += [float(near < one) for one in far]
    flaws = [inspect(piece.rest, SAMPLE_RATE) for piece in pieces]
    return Row(
        name,
        len(pieces),
        _mean(own),
        _mean(other) if other else None,
        _mean(nearer) if nearer else None,
        _mean([float(flaw.level_db < SILENT_DB) for flaw in flaws]),
        _mean([flaw.pauses for flaw in flaws]),
        _mean([float(clicks_at(piece) > 0) for piece in pieces]),
        _mean([float(one) for one in kept]),
        0.0 if listener is None else _words(pieces, listener),
    )


def long_term(waveform: Tensor) -> Tensor:
    """waveform [N] at 16 kHz -> the mean of its log-mel frames that sound, without their level, in dB: [M]."""
    mel = log_mel(waveform, SAMPLE_RATE, _FFT, _HOP, _BANDS, _FLOOR)  # [M, T], nepers
    level = (2 * mel).logsumexp(dim=0) * (10 / math.log(10))
    mean = mel[:, level >= level.max() - _QUIET_DB].mean(dim=1) * (20 / math.log(10))
    return mean - mean.mean()


def distance(a: Tensor, b: Tensor) -> float:
    """Root mean square of the difference of two long-term spectra, dB."""
    return float((a - b).square().mean().sqrt())


def clicks_at(piece: Piece) -> int:
    """Clicks within 50 ms of the seam, at the sound's own rate; see metrics/cleanliness.count_clicks."""
    reach = round(_SEAM_SECONDS * piece.rate)
    return count_clicks(piece.whole[max(0, piece.seam - reach) : piece.seam + reach], piece.rate)


def _halves(pieces: Sequence[Piece]) -> tuple[list[Tensor], list[Tensor]]:
    return [piece.rest for piece in pieces], [piece.prompt for piece in pieces]


def _recorded(one: Transcribed, prompt_seconds: float) -> Piece | None:
    """A recording cut after its prompt; None when too little is left."""
    waveform, rate = audio.read(one.path)
    mono, seam = audio.remix(waveform, 1)[0], round(prompt_seconds * rate)
    return Piece(mono, seam, rate) if len(mono) >= seam + rate // 2 else None


def _continued(model: Any, piece: Piece, how: How) -> Piece:
    pipeline: Any = audiolm if isinstance(model, audiolm.AudioLM) else plain
    prompt = piece.whole[None, : piece.seam]
    [whole] = finish(pipeline.continue_audio(model, prompt, piece.rate, "", how.seconds, [how.seed], how.sampling))
    return Piece(whole[0], piece.seam, piece.rate)


def _words(pieces: Sequence[Piece], listener: Listener) -> float:
    rests = [piece.rest for piece in pieces]
    return sum(len(listener.hears(rest).split()) for rest in rests) * SAMPLE_RATE / sum(len(rest) for rest in rests)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
