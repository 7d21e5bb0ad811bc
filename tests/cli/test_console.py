"""What is printed, and where."""

from __future__ import annotations

import pytest

from audiogen_cli.cli import console


def test_results_go_to_stdout_and_words_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console.result("a [b] path")
    console.result_json({"prompt": "犬"})
    console.say("a remark")
    console.error("two\nlines")
    captured = capsys.readouterr()
    assert captured.out == 'a [b] path\n{"prompt": "犬"}\n'
    assert captured.err == "a remark\nerror: two lines\n"


def test_progress_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("dog", total=2.0) as show, console.waiting("loading"):
        show(1.0, "fast")
    assert capsys.readouterr() == ("", "")


def test_a_table_without_a_terminal_is_tab_separated(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(("name", "licence"), [("a", "MIT"), ("b[c]", "")])
    assert capsys.readouterr().out == "a\tMIT\nb[c]\t\n"


def test_progress_on_a_terminal_shows_names_with_brackets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with console.progress("dog [x]", total=2.0) as show:
        show(1.0, "1.6 times real time")
    shown = capsys.readouterr().err
    assert "dog [x]" in shown and "1.6 times real time" in shown
