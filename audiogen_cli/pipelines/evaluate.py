"""How well a model answers words, judged by an independent tagger; what its codec keeps; whether its levels are sane.

Every sound comes before the tagger at one level. A recording is presented as a training example is (a long one cut, a
short one repeated or placed in silence), so that a model that has learnt its examples perfectly would score what they
score. A sound counts as recognised when one of its prompt's classes is among the first five.

The control scores each generated sound against the classes of every other prompt that shares none with its own: the
mean over all ways of shuffling the prompts, without the luck of one.
"""

from __future__ import annotations

import csv
import dataclasses
import re
import zlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from audiogen_cli import __version__
from audiogen_cli.data import audio, manifest
from audiogen_cli.data.segments import SegmentConfig, Segments, active_rms, leveled
from audiogen_cli.errors import InputError
from audiogen_cli.hub.catalog import Model
from audiogen_cli.metrics import similarity
from audiogen_cli.metrics.tagger import SAMPLE_RATE, Tagger, among_first
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.decoding import Sampling
from audiogen_cli.pipelines.generate import generate

# Active RMS. On up to 24 recordings of each prompt the tagger knew 70 % at -16, 72 at -20 and -26, and 71 at -32 dBFS.
LEVEL_DB = -26.0
SILENT_DB = -50.0
CODEC_SECONDS = 10.0


class Prompt(NamedTuple):
    """classes: the tagger's names that count as right. caption: finds recordings of the same by their captions."""

    text: str
    classes: tuple[str, ...]
    caption: re.Pattern[str]


class Recording(NamedTuple):
    """held_out: the model has been trained neither on it nor on others of its source."""

    path: Path
    caption: str
    held_out: bool


class Progress(NamedTuple):
    stage: str
    done: int
    total: int


# placed, coded (placed, then through the codec), as_is: held-out recordings. trained: other recordings, placed.
Kind = Literal["generated", "placed", "coded", "as_is", "trained"]


class Trial(NamedTuple):
    """One sound heard by the tagger. hits: bool [P], whether each prompt's classes are among the first five."""

    prompt: int
    kind: Kind
    hits: Tensor


@dataclass(frozen=True)
class Row:
    """Shares recognised; None where there was nothing to hear. placed, coded and as_is are those of `clips` held-out
    recordings, all_placed of all_clips recordings whether held out or not."""

    prompt: str
    generated: float | None
    control: float | None
    placed: float | None
    coded: float | None
    as_is: float | None
    clips: int
    all_placed: float | None
    all_clips: int


@dataclass(frozen=True)
class CodecReport:
    """Means over recordings. used, perplexity: of each codebook, see metrics/similarity.CodebookUsage."""

    clips: int
    seconds: float
    kbps: float
    si_snr_db: float
    mel_distance: float
    used: tuple[float, ...]
    perplexity: tuple[float, ...]


@dataclass(frozen=True)
class LevelReport:
    """level_db: active RMS in dBFS, its 5 %, 50 % and 95 % quantiles. silent, clipped: shares of the sounds."""

    sounds: int
    level_db: tuple[float, float, float]
    silent: float
    clipped: float


@dataclass(frozen=True)
class Report:
    about: dict[str, Any]
    rows: tuple[Row, ...]
    mean: Row
    codec: CodecReport | None
    generated_levels: LevelReport
    recorded_levels: LevelReport | None


def read_prompts(path: Path) -> list[Prompt]:
    """A CSV with the columns prompt, classes (separated by |) and caption (a regular expression); or InputError."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [Prompt(row["prompt"], tuple(row["classes"].split("|")), re.compile(row["caption"])) for row in rows]
    except (OSError, UnicodeDecodeError, KeyError, AttributeError, TypeError, csv.Error, re.error) as error:
        columns = "prompt, classes and caption"
        raise InputError(
            f"cannot use the prompts in {path} ({error}); give a CSV with the columns {columns}."
        ) from error


def read_recordings(folder: Path) -> list[Recording]:
    """The clips of a folder that `audiolm prepare` wrote; those of its validation split are held out."""
    clips = manifest.read(folder / manifest.NAME)
    return [Recording(Path(clip.path), clip.caption, clip.split == "valid") for clip in clips]


def evaluate(
    model: Model,
    tagger: Tagger,
    prompts: Sequence[Prompt],
    recordings: Sequence[Recording] = (),
    num_seeds: int = 4,
    seconds: float = 5.0,
    sampling: Sampling | None = None,
) -> Generator[Progress, None, Report]:
    """The same report for the same arguments on the same machine; sampling None is the model's own.

    Raises InputError when there are no prompts, or a prompt names a class that the tagger does not know.
    """
    if not prompts:
        raise InputError("there are no prompts to evaluate; give at least one.")
    sampling = sampling or model.sampling
    listener = Listener(tagger, prompts)
    sounds = yield from _generated(model, prompts, num_seeds, seconds, sampling)  # P * num_seeds of [N]
    trials = [Trial(i // num_seeds, "generated", listener.hits(_at_level(sound))) for i, sound in enumerate(sounds)]
    for index, recording in enumerate(recordings):
        yield Progress("listening to recordings", index, len(recordings))
        trials += listener.trials(recording, model.codec, model.lm.config.num_codebooks, seconds)
    held_out = [_read(recording.path) for recording in recordings if recording.held_out]
    codec = (yield from measure_codec(model.codec, model.lm.config.num_codebooks, held_out)) if held_out else None
    rows = table(prompts, trials, listener.strangers)
    about = _about(model, tagger, num_seeds, seconds, sampling)
    recorded_levels = measure_levels(held_out) if held_out else None
    return Report(about, tuple(rows), mean_row(rows), codec, measure_levels(sounds), recorded_levels)


class Listener:
    """The tagger, with the prompts whose classes it is asked for."""

    def __init__(self, tagger: Tagger, prompts: Sequence[Prompt]) -> None:
        self.prompts = prompts
        self.strangers = strangers(prompts)
        self._tagger = tagger
        self._classes = [tagger.indices(prompt.classes) for prompt in prompts]

    def hits(self, waveform: Tensor) -> Tensor:
        """waveform [N] -> bool [P]."""
        scores = self._tagger.scores(waveform)
        return torch.tensor([among_first(scores, classes) for classes in self._classes])

    def trials(self, recording: Recording, codec: Codec, num_codebooks: int, seconds: float) -> list[Trial]:
        """The ways of presenting one recording, for each prompt that its caption fits; [] when none does."""
        fitting = [i for i, prompt in enumerate(self.prompts) if prompt.caption.search(recording.caption)]
        if not fitting:
            return []
        waveform = _read(recording.path)
        example = placed(waveform, recording, seconds)
        heard: dict[Kind, Tensor] = {"placed" if recording.held_out else "trained": self.hits(example)}
        if recording.held_out:
            heard["coded"] = self.hits(_at_level(round_trip(codec, example, num_codebooks)[0]))
            heard["as_is"] = self.hits(waveform[: round(seconds * SAMPLE_RATE)])
        return [Trial(index, kind, hits) for index in fitting for kind, hits in heard.items()]


def strangers(prompts: Sequence[Prompt]) -> Tensor:
    """bool [P, P]: which pairs of prompts share no class, so that a sound of one is no answer to the other."""
    return torch.tensor([[set(a.classes).isdisjoint(b.classes) for b in prompts] for a in prompts])


def table(prompts: Sequence[Prompt], trials: Iterable[Trial], strangers: Tensor) -> list[Row]:
    """A row for each prompt. strangers [P, P]: the pairs that the control may shuffle."""
    groups: dict[tuple[int, Kind], list[Tensor]] = {}
    for trial in trials:
        groups.setdefault((trial.prompt, trial.kind), []).append(trial.hits)

    def row(index: int, prompt: Prompt) -> Row:
        def own(*kinds: Kind) -> list[Tensor]:
            return [hits[index] for kind in kinds for hits in groups.get((index, kind), [])]

        others = [hits[strangers[index]] for hits in groups.get((index, "generated"), [])]
        return Row(
            prompt=prompt.text,
            generated=_share(own("generated")),
            control=_share(others),
            placed=_share(own("placed")),
            coded=_share(own("coded")),
            as_is=_share(own("as_is")),
            clips=len(own("placed")),
            all_placed=_share(own("placed", "trained")),
            all_clips=len(own("placed", "trained")),
        )

    return [row(index, prompt) for index, prompt in enumerate(prompts)]


def mean_row(rows: Sequence[Row]) -> Row:
    """Every prompt counts the same; one without a share is left out of that column's mean."""

    def mean(name: str) -> float | None:
        values = [value for row in rows if (value := getattr(row, name)) is not None]
        return sum(values) / len(values) if values else None

    shares = {name: mean(name) for name in ("generated", "control", "placed", "coded", "as_is", "all_placed")}
    clips, all_clips = sum(row.clips for row in rows), sum(row.all_clips for row in rows)
    return Row(prompt=f"mean of {len(rows)} prompts", clips=clips, all_clips=all_clips, **shares)


def placed(waveform: Tensor, recording: Recording, seconds: float) -> Tensor:
    """waveform [N] as a training example at the one level: the same for the same file name."""
    level = (LEVEL_DB, LEVEL_DB)
    config = SegmentConfig(SAMPLE_RATE, seconds, mix_probability=0.0, pitch_semitones=0.0, level_db=level)
    seed = zlib.crc32(recording.path.name.encode())
    return Segments([waveform], [recording.caption], config, seed).example(0, 0).waveform[0]


def measure_codec(
    codec: Codec, num_codebooks: int, waveforms: Sequence[Tensor]
) -> Generator[Progress, None, CodecReport]:
    """waveforms: [N_i] at 16 kHz, of which the first 10 s are coded as they are."""
    streams, values, seconds = [], [], 0.0
    for index, waveform in enumerate(waveforms):
        yield Progress("measuring the codec", index, len(waveforms))
        waveform = waveform[: round(CODEC_SECONDS * SAMPLE_RATE)]
        decoded, codes = round_trip(codec, waveform, num_codebooks)
        mel_distance = similarity.mel_distance(waveform, decoded, SAMPLE_RATE)
        values.append((float(similarity.si_snr(waveform, decoded)), float(mel_distance)))
        streams.append(codes)
        seconds += len(waveform) / SAMPLE_RATE
    si_snr_db, mel = torch.tensor(values, dtype=torch.float64).mean(dim=0).tolist()
    kbps = num_codebooks * codec.frame_rate * (codec.codebook_size - 1).bit_length() / 1000
    usage = similarity.codebook_usage(torch.cat(streams, dim=1)[None], codec.codebook_size)
    used, perplexity = zip(*usage, strict=True)
    return CodecReport(len(waveforms), round(seconds, 1), kbps, si_snr_db, mel, used, perplexity)


@torch.inference_mode()
def round_trip(codec: Codec, waveform: Tensor, num_codebooks: int) -> tuple[Tensor, Tensor]:
    """waveform [N] at 16 kHz -> the decoded waveform [N] at 16 kHz, and the codes [K, T]."""
    device = next(codec.parameters()).device
    at_rate = audio.remix(audio.resample(waveform[None], SAMPLE_RATE, codec.sample_rate), codec.channels)
    codes = codec.encode(at_rate[None].to(device), num_codebooks)
    decoded = codec.decode(codes)[0, :, : at_rate.shape[1]].float().cpu()
    return _mono(decoded, codec.sample_rate)[: len(waveform)], codes[0].cpu()


def measure_levels(waveforms: Sequence[Tensor]) -> LevelReport:
    """waveforms: [N_i] at 16 kHz. Clipped: a sample in a thousand, or more, at full scale."""
    rms = torch.tensor([active_rms(waveform.numpy(), SAMPLE_RATE) for waveform in waveforms]).double()
    level_db = 20 * rms.clamp_min(1e-6).log10()
    low, middle, high = level_db.quantile(torch.tensor([0.05, 0.5, 0.95]).double()).tolist()
    clipped = [bool((waveform.abs() >= 0.999).float().mean() >= 1e-3) for waveform in waveforms]
    silent = (level_db < SILENT_DB).double().mean()
    return LevelReport(len(waveforms), (low, middle, high), float(silent), sum(clipped) / len(clipped))


def markdown(report: Report) -> str:
    """The report as tables for a model card."""
    return "\n".join(_markdown_lines(report)) + "\n"


def _markdown_lines(report: Report) -> Iterator[str]:
    about, mean = report.about, report.mean
    yield (
        f"Model {about['model']} ({about['model_hash']}), audiolm {about['version']}, {about['seeds']} seeds of "
        f"{about['seconds']:g} s for each prompt, tagger {about['tagger_hash']}."
    )
    yield ""
    yield "| prompt | generated | shuffled | held-out | through codec | as recorded | clips | all recordings | clips |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    for row in (*report.rows, mean):
        yield "| " + " | ".join(_cells(row)) + " |"
    yield ""
    if mean.control:
        yield f"Generated over shuffled: {(mean.generated or 0) / mean.control:.1f} times."
    heard = [row for row in report.rows if row.clips]
    if heard and (among := mean_row(heard)).placed and among.generated is not None:
        yield (
            f"Of the {len(heard)} prompts with held-out recordings, generated {among.generated:.3f}, held-out "
            f"{among.placed:.3f}: {among.generated / (among.placed or 1):.0%}."
        )
    yield from _codec_lines(report.codec)
    yield ""
    yield "| levels | sounds | 5 % (dBFS) | median | 95 % | silent | clipped |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for name, level in (("generated", report.generated_levels), ("held-out", report.recorded_levels)):
        if level is not None:
            low, middle, high = level.level_db
            shares = f"{level.silent:.1%} | {level.clipped:.1%}"
            yield f"| {name} | {level.sounds} | {low:.1f} | {middle:.1f} | {high:.1f} | {shares} |"


def _codec_lines(codec: CodecReport | None) -> Iterator[str]:
    if codec is None:
        return
    yield ""
    yield (
        f"Codec at {codec.kbps:g} kbps on {codec.clips} held-out recordings ({codec.seconds:.0f} s): SI-SNR "
        f"{codec.si_snr_db:.2f} dB, mel distance {codec.mel_distance:.3f}."
    )
    yield ""
    yield "| codebook | codes in use | perplexity |"
    yield "|--:|--:|--:|"
    for index, (used, perplexity) in enumerate(zip(codec.used, codec.perplexity, strict=True), start=1):
        yield f"| {index} | {used:.1%} | {perplexity:.0f} |"


def _cells(row: Row) -> list[str]:
    def share(value: float | None, digits: int = 2) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    shares = [share(row.generated), share(row.control, 3), *map(share, (row.placed, row.coded, row.as_is))]
    return [row.prompt, *shares, str(row.clips), share(row.all_placed), str(row.all_clips)]


def _generated(
    model: Model, prompts: Sequence[Prompt], num_seeds: int, seconds: float, sampling: Sampling
) -> Generator[Progress, None, list[Tensor]]:
    """The decoder's own samples, mono [N] at 16 kHz, `num_seeds` of each prompt in turn."""
    texts = [prompt.text for prompt in prompts for _ in range(num_seeds)]
    seeds = list(range(num_seeds)) * len(prompts)
    steps = generate(model, texts, seconds, seeds, sampling, normalize="none", fade=0.0)
    while True:
        try:
            state = next(steps)
        except StopIteration as stop:
            return [_mono(sound, model.sample_rate) for sound in stop.value]
        yield Progress("generating", state.done_frames, state.total_frames)


def _share(hits: Sequence[Tensor]) -> float | None:
    """The share of True in all of them; None when there are none."""
    flat = torch.cat([hit.reshape(-1) for hit in hits]) if hits else torch.empty(0)
    return float(flat.double().mean()) if len(flat) else None


def _mono(waveform: Tensor, sample_rate: int) -> Tensor:
    """[C, N] -> [N'] at 16 kHz."""
    return audio.remix(audio.resample(waveform, sample_rate, SAMPLE_RATE), 1)[0]


def _read(path: Path) -> Tensor:
    return audio.read(path, SAMPLE_RATE, channels=1).waveform[0]


def _at_level(waveform: Tensor) -> Tensor:
    return torch.from_numpy(leveled(waveform.numpy(), LEVEL_DB, SAMPLE_RATE))


def _about(model: Model, tagger: Tagger, num_seeds: int, seconds: float, sampling: Sampling) -> dict[str, Any]:
    return {
        "model": model.name,
        "model_hash": model.hash,
        "version": __version__,
        "sampling": dataclasses.asdict(sampling),
        "seeds": num_seeds,
        "seconds": seconds,
        "tagger_hash": tagger.hash,
    }
