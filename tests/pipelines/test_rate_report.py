"""The table says what the report holds; the picture is a PNG, the same every time."""

from __future__ import annotations

import struct

import pytest

from audiogen_cli.errors import ModelError
from audiogen_cli.pipelines import rate_report
from audiogen_cli.pipelines.rate_distortion import Report, Row


def row(coder: str, kbps: float, coded: float | None, visqol: float | None) -> Row:
    return Row(coder, kbps, coded, {"si_snr": 1.234, "mel_distance": 0.2345, "visqol": visqol}, 12.34, 56.78)


REPORT = Report(
    "tiny",
    "0123456789ab",
    clips=2,
    seconds=7.5,
    sample_rate=16_000,
    rows=(row("tiny", 2.0, 1.7, 3.0), row("tiny", 4.0, 3.6, 3.5), row("Opus", 8.7, None, None)),
)


def test_the_table_has_a_column_for_each_score_and_a_row_for_each_rate() -> None:
    lines = rate_report.markdown(REPORT).splitlines()
    assert lines[0].startswith("2 recordings, 7.5 s, heard at 16000 Hz; codec tiny (0123456789ab)")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    scores = ["SI-SNR, dB", "mel distance", "ViSQOL"]
    assert cells[0] == ["codec", "kbps", "entropy-coded", *scores, "encode, x", "decode, x"]
    assert set("".join(cells[1])) == {"-", ":"}
    assert cells[2] == ["tiny", "2.00", "1.70", "1.23", "0.234", "3.00", "12.3", "56.8"]
    assert cells[4] == ["Opus", "8.70", "", "1.23", "0.234", "", "12.3", "56.8"]
    assert len({len(line) for line in lines[2:]}) == 1


def test_the_plot_is_a_png_and_the_same_every_time() -> None:
    pytest.importorskip("matplotlib")
    png = rate_report.plot(REPORT)
    assert png.startswith(b"\x89PNG\r\n\x1a\n") and png == rate_report.plot(REPORT)
    width, height = struct.unpack(">II", png[16:24])
    assert width > 2 * height  # three panels


def test_a_plot_without_matplotlib_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install matplotlib"):
        rate_report.check_drawing()
