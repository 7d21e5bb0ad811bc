"""What pipelines/rate_distortion.py measured, as a table and as a picture."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

from audiogen_cli.errors import ModelError
from audiogen_cli.pipelines.rate_distortion import Report, Row


class Scale(NamedTuple):
    """How a score is written. better: which way."""

    title: str
    digits: int
    better: str


SCALES = {
    "si_snr": Scale("SI-SNR, dB", 2, "higher"),
    "mel_distance": Scale("mel distance", 3, "lower"),
    "stoi": Scale("STOI", 3, "higher"),
    "pesq": Scale("PESQ", 2, "higher"),
    "visqol": Scale("ViSQOL", 2, "higher"),
}
_DPI, _PANEL_INCHES = 144, (4.2, 3.6)
_COLOURS = ("#c03221", "#2a6f97", "#6a994e", "#7b5ea7")


def markdown(report: Report) -> str:
    """A line about the recordings, and a row for each codec and rate."""
    names = list(report.rows[0].scores)
    header = ["codec", "kbps", "entropy-coded", *(SCALES[name].title for name in names), "encode, x", "decode, x"]
    cells = [header, *(_cells(row, names) for row in report.rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    lines = [_line(line, widths) for line in cells]
    rule = "|" + "|".join("-" * (widths[0] + 2) if not i else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    about = (
        f"{report.clips} recordings, {report.seconds:.1f} s, heard at {report.sample_rate} Hz; codec {report.codec} "
        f"({report.fingerprint}); x: times real time."
    )
    return "\n".join([about, "", lines[0], rule, *lines[1:]]) + "\n"


def check_drawing() -> None:
    """Raises ModelError when there is nothing to draw with."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ModelError("the plot needs matplotlib; get it with `pip install matplotlib`, or leave out --plot.")


def plot(report: Report, title: str = "") -> bytes:
    """A PNG: a panel for each score, over the rate; dashed: our codec after entropy coding."""
    from matplotlib.figure import Figure

    names = [name for name in report.rows[0].scores if any(row.scores[name] is not None for row in report.rows)]
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * len(names), height), dpi=_DPI, layout="constrained")
    for panel, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        _draw(panel, report.rows, name)
    figure.axes[0].legend(frameon=False)
    figure.suptitle(title or f"{report.clips} recordings, {report.seconds:.0f} s")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw(panel: Any, rows: Sequence[Row], name: str) -> None:
    scale = SCALES[name]
    for number, coder in enumerate(dict.fromkeys(row.coder for row in rows)):
        points = [(row, value) for row in rows if row.coder == coder and (value := row.scores[name]) is not None]
        colour, values = _COLOURS[number % len(_COLOURS)], [value for _, value in points]
        panel.plot([row.kbps for row, _ in points], values, "o-", color=colour, label=coder, markersize=5)
        coded = [row.coded_kbps for row, _ in points]
        if points and None not in coded:
            style = {"linestyle": "--", "marker": "o", "markerfacecolor": "white", "markersize": 5}
            panel.plot(coded, values, color=colour, label=f"{coder}, entropy-coded", **style)
    ticks = sorted({round(row.kbps) for row in rows if row.kbps >= 1})
    panel.set_xscale("log")
    panel.set_xticks(ticks, [str(tick) for tick in ticks])
    panel.minorticks_off()
    panel.set_xlabel("kbps")
    panel.set_title(f"{scale.title} ({scale.better} is better)", fontsize=10)
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)


def _cells(row: Row, names: Sequence[str]) -> list[str]:
    coded = "" if row.coded_kbps is None else f"{row.coded_kbps:.2f}"
    values = [(row.scores[name], SCALES[name].digits) for name in names]
    written = ["" if value is None else f"{value:.{digits}f}" for value, digits in values]
    return [row.coder, f"{row.kbps:.2f}", coded, *written, f"{row.encode_pace:.1f}", f"{row.decode_pace:.1f}"]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(w) if not i else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths, strict=True))]
    return f"| {' | '.join(padded)} |"
