"""What is measured of continued recordings, on sounds whose answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from audiogen_cli.data import audio
from audiogen_cli.errors import InputError
from audiogen_cli.hub import catalog
from audiogen_cli.models.decoding import Sampling, finish
from audiogen_cli.pipelines import continuation
from audiogen_cli.pipelines.continuation import How, Piece, clicks_at, distance, evaluate, long_term, row
from audiogen_cli.pipelines.intelligibility import Transcribed

RATE = 16_000


def noise(seconds: float, seed: int, smooth: int = 1) -> Tensor:
    """[N]; the smoother, the darker."""
    samples = torch.randn(round(seconds * RATE) + smooth - 1, generator=torch.Generator().manual_seed(seed))
    return 0.1 * samples.unfold(0, smooth, 1).mean(dim=1) * smooth**0.5


def piece(prompt: Tensor, rest: Tensor) -> Piece:
    return Piece(torch.cat([prompt, rest]), len(prompt), RATE)


class Counts:
    hash = "abc"

    def hears(self, waveform: Tensor) -> str:
        return "word " * 3


def test_long_term_spectra_know_a_sound_by_its_colour_not_by_its_level() -> None:
    bright, again, dark = (long_term(sound) for sound in (noise(1, 0), 0.3 * noise(1, 1), noise(1, 2, 8)))
    assert distance(bright, again) < 1.0 < 5.0 < distance(bright, dark)
    pauses = torch.cat([torch.zeros(RATE), noise(1, 0), torch.zeros(RATE)])
    assert distance(bright, long_term(pauses)) < 1.0
    assert torch.isfinite(long_term(torch.zeros(RATE))).all()


def test_what_stays_in_its_domain_is_nearer_to_its_own_prompt_than_to_others() -> None:
    bright, dark = piece(noise(1, 0), noise(1, 1)), piece(noise(1, 2, 8), noise(1, 3, 8))
    stays = row("stays", [bright, dark], ["a", "b"], [True, True], Counts())
    assert stays.other is not None
    assert stays.distance < 1.0 and stays.other > 5.0 and stays.nearer == 1.0
    assert (stays.silent, stays.clicks, stays.kept, stays.words) == (0.0, 0.0, 1.0, 3.0)
    leaves = row(
        "leaves", [piece(bright.prompt, dark.rest), piece(dark.prompt, bright.rest)], ["a", "b"], [True, False]
    )
    assert leaves.nearer == 0.0 and leaves.distance > 5.0 and leaves.kept == 0.5
    same = row("same", [bright, dark], ["a", "a"], [True, True])
    assert same.other is None and same.nearer is None, "one source has no stranger"


def test_silence_and_a_click_at_the_seam_are_seen() -> None:
    prompt, quiet = noise(1, 0), torch.zeros(RATE)
    found = row("falls silent", [piece(prompt, quiet)] * 2, ["a", "b"], [True, True])
    assert found.silent == 1.0
    tone = 0.3 * torch.sin(2 * torch.pi * 200 * torch.arange(2 * RATE) / RATE)
    assert clicks_at(piece(tone[:RATE], tone[RATE:])) == 0
    broken = tone[RATE:].clone()
    broken[0] += 0.5
    assert clicks_at(piece(tone[:RATE], broken)) == 1
    broken = tone[RATE:].clone()
    broken[RATE // 2] += 0.5
    assert clicks_at(piece(tone[:RATE], broken)) == 0, "far from the seam it is no seam's click"


def test_a_model_goes_on_from_every_recording_that_is_long_enough(tiny_model: Path, tmp_path: Path) -> None:
    model: Any = catalog.load(tiny_model)
    recordings = []
    for number, seconds in enumerate((1.2, 1.3, 0.3)):
        audio.write(tmp_path / f"{number}.wav", noise(seconds, number)[None], RATE)
        recordings.append(Transcribed(tmp_path / f"{number}.wav", "word", "word", "ab"[number % 2]))
    own, made = finish(evaluate(model, None, recordings, How(0.5, 0.5)))
    assert (own.name, made.name) == ("the recordings' own rest", "continued")
    assert own.sounds == made.sounds == 2
    assert made.kept == 1.0, "up to the seam it is the recording"
    assert own.nearer is not None and made.words == 0.0
    cold = [finish(evaluate(model, None, recordings, How(0.5, 0.5, seed, Sampling(0.0))))[1] for seed in (0, 7)]
    warm = finish(evaluate(model, None, recordings, How(0.5, 0.5, 7)))[1]
    assert cold[0] == cold[1] and made != warm, "the likeliest is the same for every seed"
    with pytest.raises(InputError, match="longer than a prompt"):
        finish(evaluate(model, None, recordings, How(0.9, 0.5)))


def test_a_model_that_ends_at_once_is_compared_where_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = []
    for number in range(3):
        path = tmp_path / f"{number}.wav"
        audio.write(path, noise(2, number)[None], RATE)
        recordings.append(Transcribed(path, "", "", "ab"[number % 2]))
    ends = {0}

    def continued(_: Any, piece: Piece, how: How) -> Piece:
        return Piece(piece.whole[: piece.seam] if how.seed in ends else piece.whole, piece.seam, piece.rate)

    monkeypatch.setattr(continuation, "_continued", continued)
    own, made = finish(evaluate(None, None, recordings, How(1.0, 1.0)))
    assert (own.sounds, made.sounds) == (3, 2)
    ends |= {1, 2}
    with pytest.raises(InputError, match="ends after every one"):
        finish(evaluate(None, None, recordings, How(1.0, 1.0)))
