"""How well a model answers words, judged by an independent tagger; how like recordings its sounds are; what its codec
keeps. The parts have files of their own:

    listening.py     prompts, recordings, and how the tagger hears them
    recognition.py   a prompt's classes among the tagger's first
    pairs.py         both sounds of "dog barking in rain"
    paraphrases.py   "a mutt" for "a dog barking"
    likeness.py      Fréchet distance, variety, nearest training clips
    sheets.py        spectrograms, generated beside real
    scorecard.py     the report as Markdown
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiogen_cli import __version__
from audiogen_cli.errors import InputError
from audiogen_cli.hub.catalog import Model
from audiogen_cli.metrics import similarity
from audiogen_cli.metrics.cleanliness import Cleanliness, inspect, summary
from audiogen_cli.metrics.tagger import SAMPLE_RATE, Tagger
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.decoding import Sampling
from audiogen_cli.pipelines import sheets
from audiogen_cli.pipelines.crew import Crew
from audiogen_cli.pipelines.likeness import Embedded, Likeness, embed, measure_likeness
from audiogen_cli.pipelines.listening import Progress, Prompt, Recording, Setup, Take, side_by_side
from audiogen_cli.pipelines.pairs import Pair, PairReport, measure_pairs
from audiogen_cli.pipelines.paraphrases import Paraphrase, ParaphraseReport, measure_paraphrases
from audiogen_cli.pipelines.recognition import Listener, Row, Trial, mean_row, table

CODED = 1  # held-out recordings of each prompt that are heard after the codec too, unless `clips` asks for more


@dataclass(frozen=True)
class Extent:
    """What is measured beside the prompts. clips: held-out captions that are generated too, for the Fréchet distance,
    of recordings that are heard after the codec as well; 0 for none. sheets: a folder for spectrograms, checked by
    sheets.check_folder and overwritten."""

    pairs: Sequence[Pair] = ()
    paraphrases: Sequence[Paraphrase] = ()
    clips: int = 500
    sheets: Path | None = None


@dataclass(frozen=True)
class CodecReport:
    """Means over held-out recordings, as examples. used, perplexity: of each codebook, see
    metrics/similarity.CodebookUsage; there are none, and no rate, where latents are not quantized."""

    clips: int
    seconds: float
    kbps: float | None
    si_snr_db: float
    mel_distance: float
    used: tuple[float, ...]
    perplexity: tuple[float, ...]


@dataclass(frozen=True)
class Report:
    """A part is None where there was nothing to measure it on, or it was not asked for."""

    about: dict[str, Any]
    rows: tuple[Row, ...]
    mean: Row
    pairs: PairReport | None
    paraphrases: ParaphraseReport | None
    likeness: Likeness
    cleanliness: tuple[Cleanliness, ...]
    codec: CodecReport | None


@dataclass
class _Heard:
    """What the recordings gave. takes: the held-out ones; shown: examples for the sheets, a few for each prompt."""

    trials: list[Trial]
    embedded: list[Embedded]
    takes: list[Take]
    shown: list[list[Tensor]]


def evaluate(
    model: Model,
    tagger: Tagger,
    prompts: Sequence[Prompt],
    recordings: Sequence[Recording] = (),
    num_seeds: int = 4,
    seconds: float = 5.0,
    sampling: Sampling | None = None,
    extent: Extent | None = None,
    candidates: int | None = None,
    crew: Crew | None = None,
) -> Generator[Progress, None, Report]:
    """The same report for the same arguments on the same machine; sampling and candidates None are the model's own.
    crew: processes of the same model that make its sounds, in place of this one.

    Raises InputError when there are no prompts, or a prompt names a class that the tagger does not know.
    """
    if not prompts:
        raise InputError("there are no prompts to evaluate; give at least one.")
    extent = extent or Extent()
    setup = Setup(model, tagger, num_seeds, seconds, sampling or model.sampling, candidates, crew)
    listener = Listener(setup, prompts)
    sounds = yield from setup.answers([prompt.text for prompt in prompts], "generating")  # P * num_seeds of [N]
    heard = yield from _hear(setup, listener, recordings, extent.clips)
    rows = table(prompts, listener.generated(sounds) + heard.trials, listener.strangers)
    pairs = (yield from measure_pairs(setup, extent.pairs, heard.takes)) if extent.pairs else None
    plain = {row.prompt: row.generated or 0.0 for row in rows}
    words = (yield from measure_paraphrases(setup, extent.paraphrases, plain)) if extent.paraphrases else None
    alike, answers = yield from measure_likeness(setup, prompts, sounds, heard.embedded, extent.clips)
    if extent.sheets is not None:
        _draw(setup, extent.sheets, prompts, sounds, heard.shown)
    return Report(
        about=_about(setup),
        rows=tuple(rows),
        mean=mean_row(rows),
        pairs=pairs,
        paraphrases=words,
        likeness=alike,
        cleanliness=(yield from measure_cleanliness([*sounds, *answers], heard.takes, seconds)),
        codec=measure_codec(model.codec, heard.takes) if heard.takes else None,
    )


def _hear(
    setup: Setup, listener: Listener, recordings: Sequence[Recording], clips: int
) -> Generator[Progress, None, _Heard]:
    """The held-out recordings first, so that these come first on the sheets."""
    heard = _Heard([], [], [], [[] for _ in listener.prompts])
    ordered = sorted(recordings, key=lambda recording: not recording.held_out)
    wanted = _coded(listener, ordered, clips)

    def hear(asked: tuple[Recording, bool]) -> tuple[Take, list[Trial], Embedded]:
        take = setup.take(*asked)
        return take, listener.trials(take), embed(setup, take)

    every = side_by_side(hear, zip(ordered, wanted, strict=True), waiting=setup.crew.jobs if setup.crew else 0)
    for index, (take, trials, embedded) in enumerate(every):
        yield Progress("listening to recordings", index, len(recordings))
        heard.trials += trials
        heard.embedded.append(embedded)
        heard.takes += [take] if take.recording.held_out else []
        for prompt in dict.fromkeys(trial.prompt for trial in trials):
            heard.shown[prompt] += [take.example] if len(heard.shown[prompt]) < setup.num_seeds else []
    return heard


def _coded(listener: Listener, recordings: Sequence[Recording], clips: int) -> list[bool]:
    """Which recordings are heard after the codec: so many held-out ones of each prompt (those that fit none count as
    those of one more), and where that is fewer than `clips` others, evenly from all that are held out."""
    wanted, coded = [], Counter[int]()
    for recording in recordings:
        groups = listener.fitting(recording) or [-1]
        wanted.append(recording.held_out and any(coded[group] < CODED for group in groups))
        coded.update(groups if wanted[-1] else ())
    others = [index for index, recording in enumerate(recordings) if recording.held_out and not wanted[index]]
    more = min(max(0, clips - sum(wanted)), len(others))
    for i in range(more):
        wanted[others[(2 * i + 1) * len(others) // (2 * more)]] = True
    return wanted


def _draw(
    setup: Setup, folder: Path, prompts: Sequence[Prompt], sounds: Sequence[Tensor], shown: Sequence[Sequence[Tensor]]
) -> None:
    seeds = [sounds[i : i + setup.num_seeds] for i in range(0, len(sounds), setup.num_seeds)]
    title = f"{setup.model.name} ({setup.model.hash})"
    sheets.write_sheets(folder, title, [prompt.text for prompt in prompts], seeds, shown, force=True)


def measure_cleanliness(
    sounds: Sequence[Tensor], takes: Sequence[Take], seconds: float
) -> Generator[Progress, None, tuple[Cleanliness, ...]]:
    """sounds: generated [N]; takes: held-out recordings, as they are (cut to `seconds`), placed, and coded."""
    groups = {
        "generated": sounds,
        "held-out, as recorded": [take.waveform[: round(seconds * SAMPLE_RATE)] for take in takes],
        "held-out, as examples": [take.example for take in takes],
        "through codec": [take.coded for take in takes if take.coded is not None],
    }
    flaws = {}
    for index, (name, waveforms) in enumerate(groups.items()):
        yield Progress("looking for flaws", index, len(groups))
        flaws[name] = list(side_by_side(lambda waveform: inspect(waveform, SAMPLE_RATE), waveforms))
    usual = flaws["held-out, as recorded"]
    ranged = ("generated", "held-out, as recorded")  # the others have been brought to one level
    return tuple(summary(name, own, usual if name in ranged else ()) for name, own in flaws.items() if own)


def measure_codec(codec: Codec, takes: Sequence[Take]) -> CodecReport:
    """takes: held-out ones. What is compared are their examples, before the codec and after it."""
    values = [
        (similarity.si_snr(take.example, take.coded), similarity.mel_distance(take.example, take.coded, SAMPLE_RATE))
        for take in takes
        if take.coded is not None
    ]
    si_snr_db, mel = torch.tensor(values, dtype=torch.float64).mean(dim=0).tolist()
    codes = [take.frames for take in takes if take.frames is not None and not take.frames.is_floating_point()]
    kbps, used, perplexity = None, (), ()
    if codes:
        together = torch.cat(codes, dim=1)  # [K, T]
        kbps = len(together) * codec.frame_rate * (codec.codebook_size - 1).bit_length() / 1000
        used, perplexity = zip(*similarity.codebook_usage(together[None], codec.codebook_size), strict=True)
    seconds = sum(len(take.example) for take in takes if take.coded is not None) / SAMPLE_RATE
    return CodecReport(len(values), round(seconds, 1), kbps, si_snr_db, mel, used, perplexity)


def _about(setup: Setup) -> dict[str, Any]:
    return {
        "model": setup.model.name,
        "model_hash": setup.model.hash,
        "version": __version__,
        "sampling": dataclasses.asdict(setup.sampling),
        "candidates": setup.candidates or setup.model.card.candidates,
        "seeds": setup.num_seeds,
        "seconds": setup.seconds,
        "tagger_hash": setup.tagger.hash,
    }
