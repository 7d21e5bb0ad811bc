"""What pipelines/intelligibility.py and pipelines/continuation.py measured, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from audiogen_cli.pipelines import continuation, intelligibility

_COUNTS = ("sounds", "seconds", "words wrong", "another text", "letters wrong", "silent", "unfinished")
_CONTINUED = ("sounds", "to its prompt, dB", "to others, dB", "nearer", "silent", "pauses", "clicks", "kept", "words/s")


@dataclass(frozen=True)
class Report:
    """recogniser: the hash of what heard it. spoken: rows by the words, continued: rows by the sound."""

    recogniser: str
    spoken: tuple[intelligibility.Row, ...]
    continued: tuple[continuation.Row, ...] = ()


def markdown(report: Report) -> str:
    """A table of word error rates, the texts behind its last row, and a table of continuations, as far as there are."""
    parts = list[str]()
    if report.spoken:
        about = f"Words as recogniser {report.recogniser} hears them; another text: against one that was not said."
        parts += [about, _table(_COUNTS, [(row.name, _spoken(row)) for row in report.spoken])]
        last = report.spoken[-1]
        said = [f"- said: {example.said}\n  heard: {example.heard or '(nothing)'}" for example in last.examples]
        parts += [f"Of {last.name}:", "\n".join(said)]
    if report.continued:
        about = (
            "Long-term spectra after the seam, beside the prompt's own and those of other sources; nearer: how often "
            "the own one is."
        )
        parts += [about, _table(_CONTINUED, [(row.name, _continued(row)) for row in report.continued])]
    return "\n\n".join(parts) + "\n"


def _spoken(row: intelligibility.Row) -> list[str]:
    unfinished = "" if row.unfinished is None else _percent(row.unfinished)
    shares = [_percent(errors.rate) for errors in (row.words, row.other, row.letters)]
    return [str(row.sounds), f"{row.seconds:.1f}", *shares, _percent(row.silent), unfinished]


def _continued(row: continuation.Row) -> list[str]:
    other = "" if row.other is None else f"{row.other:.2f}"
    nearer = "" if row.nearer is None else _percent(row.nearer)
    shares = [_percent(share) for share in (row.silent, row.pauses, row.clicks, row.kept)]
    return [str(row.sounds), f"{row.distance:.2f}", other, nearer, *shares, f"{row.words:.1f}"]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _table(titles: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    cells = [["", *titles], *([name, *values] for name, values in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = [_line(line, widths) for line in cells]
    rule = "|".join("-" * (width + 2) if not number else "-" * (width + 1) + ":" for number, width in enumerate(widths))
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(w) if not i else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths, strict=True))]
    return f"| {' | '.join(padded)} |"
