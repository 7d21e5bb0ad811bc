"""Talking: results to stdout, words and progress bars to stderr. Nothing else in the program prints.

Progress bars show on a terminal only. Text from outside is never read as markup.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from audiogen_cli.hub.download import Fetch


def result(text: str) -> None:
    """One line of what was asked for, on stdout."""
    typer.echo(text)


def result_json(data: Any) -> None:
    """One JSON object on one line of stdout."""
    typer.echo(json.dumps(data, ensure_ascii=False))


def result_bytes(data: bytes) -> None:
    """Raw bytes on stdout."""
    typer.echo(data, nl=False)


def say(text: str) -> None:
    """A remark, on stderr."""
    typer.echo(text, err=True)


def error(text: str) -> None:
    """`error: ...` on stderr, on one line."""
    typer.echo(f"error: {' '.join(text.split())}", err=True)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], remark: bool = False) -> None:
    """A table on stdout: drawn on a terminal, tab-separated lines without the headers elsewhere.

    remark: it is not what was asked for, and goes to stderr, always with the headers.
    """
    console = Console(stderr=remark)
    if not console.is_terminal:
        for row in [headers, *rows] if remark else rows:
            typer.echo("\t".join(row), err=remark)
        return
    drawn = Table(*headers, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        drawn.add_row(*map(Text, row))
    console.print(drawn)


@contextlib.contextmanager
def progress(what: str, total: float, unit: str = "s") -> Iterator[Callable[[float, str], None]]:
    """A bar on stderr that vanishes at the end; call the value with what is done so far, and a remark.

    with progress("dog barking", total=5.0) as show:
        show(2.5, "1.6 times real time")
    """
    digits = 1 if unit == "s" else 0
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn(f"{{task.completed:.{digits}f}} of {{task.total:.{digits}f}} {unit}", markup=False),
        TextColumn("{task.fields[remark]}", markup=False),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(_shortened(what), total=total, remark="")

        def show(done: float, remark: str = "") -> None:
            bar.update(task, completed=done, remark=remark)

        yield show


@contextlib.contextmanager
def fetching() -> Iterator[Callable[[Fetch], None]]:
    """Call the value with how far a download is: its size and licence are said once, and a bar shows the rest."""
    with contextlib.ExitStack() as shown:
        bars: dict[str, Callable[[float, str], None]] = {}

        def show(fetch: Fetch) -> None:
            if fetch.repo not in bars:
                shown.close()
                terms = f"licence of the weights: {fetch.licence or 'see its card'}"
                say(f"fetching {fetch.repo}, {size_text(fetch.total)}; {terms}")
                bars[fetch.repo] = shown.enter_context(progress(fetch.repo, fetch.total / 1e6, "MB"))
            bars[fetch.repo](fetch.done / 1e6, "")

        yield show


def size_text(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """A spinner on stderr while something loads."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(Text(what)):
        yield


class Stopwatch:
    """Seconds since it was made, and how they compare with the seconds of sound made meanwhile."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def pace(self, seconds_of_sound: float) -> str:
        return f"{seconds_of_sound / max(self.seconds, 1e-9):.1f} times real time"


def _shortened(text: str, width: int = 40) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 2] + ".."
