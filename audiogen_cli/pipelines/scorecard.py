"""The evaluation's report as tables for a model card."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from audiogen_cli.metrics.cleanliness import Cleanliness
from audiogen_cli.pipelines.evaluate import CodecReport, Report
from audiogen_cli.pipelines.likeness import FrechetReport, NearestReport, VarietyReport
from audiogen_cli.pipelines.pairs import PairReport
from audiogen_cli.pipelines.paraphrases import ParaphraseReport
from audiogen_cli.pipelines.recognition import Row, mean_row


def markdown(report: Report) -> str:
    """Ends with a line feed."""
    parts = (
        _recognition(report),
        _pairs(report.pairs),
        _paraphrases(report.paraphrases),
        _frechet(report.likeness.frechet),
        _variety(report.likeness.variety, report.likeness.nearest),
        _cleanliness(report.cleanliness),
        _codec(report.codec),
    )
    written = ("\n".join(lines).strip("\n") for lines in parts)
    return "\n\n".join(text for text in written if text) + "\n"


def _recognition(report: Report) -> Iterator[str]:
    about, mean = report.about, report.mean
    yield (
        f"Model {about['model']} ({about['model_hash']}), audiolm {about['version']}, {about['seeds']} seeds of "
        f"{about['seconds']:g} s for each prompt, tagger {about['tagger_hash']}."
    )
    yield ""
    names = ("prompt", "generated", "shuffled", "held-out", "through codec", "as recorded", "clips", "all recordings")
    yield from _table((*names, "clips"), [_cells(row) for row in (*report.rows, mean)])
    yield ""
    if mean.control:
        yield f"Generated over shuffled: {(mean.generated or 0) / mean.control:.1f} times."
    heard = [row for row in report.rows if row.clips]
    if heard and (among := mean_row(heard)).placed and among.generated is not None:
        yield (
            f"Of the {len(heard)} prompts with held-out recordings, generated {among.generated:.3f}, held-out "
            f"{among.placed:.3f}: {among.generated / (among.placed or 1):.0%}."
        )


def _pairs(report: PairReport | None) -> Iterator[str]:
    if report is None:
        return
    names = (f"two sounds, each among the first {report.first} of a window", "generated", "shuffled", "real mixtures")
    rows = [
        [row.prompt, *_shares(row.generated, row.control, row.mixed, row.coded), str(row.mixtures)]
        for row in (*report.rows, report.mean)
    ]
    yield from _table((*names, "through codec", "mixtures"), rows)
    mixed = [row for row in report.rows if row.mixed is not None]
    if mixed and (real := sum(row.mixed or 0 for row in mixed) / len(mixed)):
        own = sum(row.generated or 0 for row in mixed) / len(mixed)
        yield ""
        yield f"Of the {len(mixed)} pairs with mixtures, generated {own:.3f}, real {real:.3f}: {own / real:.0%}."


def _paraphrases(report: ParaphraseReport | None) -> Iterator[str]:
    if report is None:
        return
    rows = [
        [row.paraphrase, row.read, row.prompt, "yes" if row.heard else "no", _share(row.generated), _share(row.plain)]
        for row in report.rows
    ]
    columns = ("paraphrase", "read as", "stands for", "heard in training", "generated", "plain prompt")
    yield from _table(columns, rows, words=4)
    for name, mean in (("words heard in training", report.heard), ("unseen words", report.unseen)):
        if mean is not None:
            relative = "-" if mean.relative is None else f"{mean.relative:.0%}"
            yield ""
            yield (
                f"Of {mean.paraphrases} {name}, generated {mean.generated:.3f}, plain prompts {mean.plain:.3f}: "
                f"{relative}."
            )


def _frechet(report: FrechetReport | None) -> Iterator[str]:
    if report is None:
        return
    count, half = report.sounds, report.sounds // 2
    names = ("Fréchet distance to held-out recordings", f"{count} and {count} sounds", f"{half} and {half}")
    rows = [
        ["generated for their captions", f"{report.generated:.2f}", f"{report.generated_half:.2f}"],
        ["recordings through the codec", f"{report.coded:.2f}", f"{report.coded_half:.2f}"],
        ["other held-out recordings", "-", f"{report.real_half:.2f}"],
    ]
    yield from _table(names, rows)


def _variety(report: VarietyReport, nearest: NearestReport | None) -> Iterator[str]:
    if report.generated is not None and report.real is not None:
        yield (
            f"Mean distance between two sounds of one prompt, over {report.prompts} prompts: generated "
            f"{report.generated:.3f}, recordings {report.real:.3f} ({report.generated / (report.real or 1):.0%})."
        )
    if nearest is not None:
        yield ""
        rows = [
            [name, *(f"{distance:.3f}" for distance in distances)]
            for name, distances in (("generated", nearest.generated), ("held-out", nearest.held_out))
        ]
        name = f"distance to the nearest of {nearest.trained} training clips"
        yield from _table((name, "least", "5 %", "median"), rows)
        yield ""
        yield f"Nearer to a training clip than all but 1 % of the held-out recordings: {nearest.near_copies:.1%}."


def _cleanliness(rows: Sequence[Cleanliness]) -> Iterator[str]:
    names = ("flaws", "sounds", "5 % (dBFS)", "median", "95 %", "in range", "silent", "clipped", "clicks", "hum")
    cells = [
        [row.name, str(row.sounds), *(f"{level:.1f}" for level in row.level_db), _percent(row.in_range)]
        + [_percent(share) for share in (row.silent, row.clipped, row.clicking, row.humming, row.pauses)]
        for row in rows
    ]
    yield from _table((*names, "pauses"), cells)


def _codec(codec: CodecReport | None) -> Iterator[str]:
    if codec is None:
        return
    rate = "without quantization" if codec.kbps is None else f"at {codec.kbps:g} kbps"
    yield (
        f"Codec {rate} on {codec.clips} held-out recordings as examples ({codec.seconds:.0f} s): "
        f"SI-SNR {codec.si_snr_db:.2f} dB, mel distance {codec.mel_distance:.3f}."
    )
    if not codec.used:
        return
    yield ""
    usage = enumerate(zip(codec.used, codec.perplexity, strict=True), start=1)
    rows = [[str(index), f"{used:.1%}", f"{perplexity:.0f}"] for index, (used, perplexity) in usage]
    yield from _table(("codebook", "codes in use", "perplexity"), rows, words=0)


def _table(names: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> Iterator[str]:
    """The first `words` columns to the left, the others to the right."""
    yield "| " + " | ".join(names) + " |"
    yield "|" + "---|" * words + "--:|" * (len(names) - words)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _cells(row: Row) -> list[str]:
    shares = _shares(row.generated, row.control, row.placed, row.coded, row.as_is)
    return [row.prompt, *shares, str(row.clips), _share(row.all_placed), str(row.all_clips)]


def _shares(generated: float | None, control: float | None, *others: float | None) -> list[str]:
    return [_share(generated), _share(control, 3), *map(_share, others)]


def _share(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
