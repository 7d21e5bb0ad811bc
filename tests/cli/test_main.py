"""The command as a whole: help, version, and what becomes of every kind of failure."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from audiogen_cli import __version__
from audiogen_cli.cli import generate, models
from audiogen_cli.cli.main import app
from audiogen_cli.errors import AudiolmError, InputError, ModelError, OutputError, TrainingError

Run = Callable[..., Result]


def test_a_newcomer_finds_the_way_in_the_help(audiolm: Run) -> None:
    text = audiolm("--help").stdout
    assert 'audiolm generate "dog barking in rain"' in text
    for command in ("generate", "continue", "info", "models", "prepare", "train", "evaluate"):
        assert f" {command} " in text


@pytest.mark.parametrize("command", [[], ["models"], ["train"]])
def test_a_group_without_a_command_shows_its_help(command: list[str]) -> None:
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert result.output.count("Usage: ") == 1


def test_the_version_is_the_packages(audiolm: Run) -> None:
    assert audiolm("--version").stdout == f"audiolm {__version__}\n"


def test_a_typo_gets_a_suggestion(audiolm: Run) -> None:
    result = audiolm("genrate", "rain")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: No such command 'genrate'. Did you mean 'generate'?; see `audiolm --help`.\n"


FAILURES = [
    (AudiolmError("it broke; mend it."), 1, "error: it broke; mend it.\n"),
    (InputError("no; yes."), 2, "error: no; yes.\n"),
    (OutputError("a [bold]\nfile."), 3, "error: a [bold] file.\n"),
    (ModelError("m."), 4, "error: m.\n"),
    (TrainingError("t."), 5, "error: t.\n"),
    (MemoryError(), 1, "not enough memory"),
    (OSError(28, "No space left on device"), 1, "the disk is full"),
    (ZeroDivisionError("oh"), 1, "unexpected ZeroDivisionError: oh; run it again with --verbose"),
    (KeyboardInterrupt(), 130, "interrupted"),
]


@pytest.mark.parametrize(("error", "code", "words"), FAILURES, ids=[type(failure[0]).__name__ for failure in FAILURES])
def test_every_failure_is_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, words: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(models.catalog, "bundled", fail)
    result = CliRunner().invoke(app, ["models", "list"], prog_name="audiolm")
    assert (result.exit_code, result.stdout) == (code, "")
    assert words in result.stderr and result.stderr.count("\n") == 1
    verbose = CliRunner().invoke(app, ["models", "list", "--verbose"])
    assert verbose.exit_code == code and "Traceback" in verbose.stderr


def test_verbose_after_two_dashes_is_a_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(texts: list[str], *_: object) -> None:
        raise InputError(f"{texts}.")

    monkeypatch.setattr(generate, "_rows", fail)
    assert CliRunner().invoke(app, ["generate", "--", "--verbose"]).stderr == "error: ['--verbose'].\n"


def test_a_reader_that_stops_reading_is_no_failure_to_speak_of() -> None:
    script = (
        "import sys; from audiogen_cli.cli.main import main; sys.argv = ['audiolm', 'models', 'list', '--json']; main()"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() in (0, 141)  # 0 when there is nothing to list
