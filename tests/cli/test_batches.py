"""Where the files of a batch go."""

from __future__ import annotations

from pathlib import Path

import pytest

from audiogen_cli.cli.batches import plan
from audiogen_cli.errors import InputError, OutputError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "sounds/b.WAV", "sounds/deep/c.flac", "sounds/notes.txt", "empty/notes.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path("out").mkdir()
    return tmp_path


def places(*inputs: str, output: str | None = None, recursive: bool = False) -> list[tuple[str, str]]:
    jobs = plan(inputs, output, recursive, (".wav", ".flac"), ".ecdc")
    return [(str(job.source), str(job.target) if job.problem is None else str(job.problem)) for job in jobs]


def test_one_file_goes_beside_itself_or_where_it_is_sent(tree: Path) -> None:
    assert places("sounds/b.WAV") == [("sounds/b.WAV", "sounds/b.ecdc")]
    assert places("a.wav", output="x.small") == [("a.wav", "x.small")]
    assert places("a.wav", output="out") == places("a.wav", output="out/") == [("a.wav", "out/a.ecdc")]
    assert places("a.wav", output="-") == [("a.wav", "None")]


def test_stdin_goes_to_stdout_or_a_file(tree: Path) -> None:
    assert places("-") == [("None", "None")]
    assert places("-", output="x.ecdc") == [("None", "x.ecdc")]
    assert places("-", output="out") == [("None", "out/stdin.ecdc")]
    with pytest.raises(InputError, match="read once"):
        places("-", "-", output="out")


def test_a_folder_keeps_its_tree(tree: Path) -> None:
    expected = [("sounds/b.WAV", "out/b.ecdc"), ("sounds/deep/c.flac", "out/deep/c.ecdc")]
    assert places("sounds", output="out", recursive=True) == expected
    assert places("sounds", output="new", recursive=True)[1][1] == "new/deep/c.ecdc"
    assert places("sounds", recursive=True)[1][1] == "sounds/deep/c.ecdc"
    assert places("a.wav", "sounds", output="out", recursive=True)[0] == ("a.wav", "out/a.ecdc")


def test_what_cannot_be_done_is_said_of_its_file_alone(tree: Path) -> None:
    found = places("a.wav", "sounds", "empty")
    assert found[0] == ("a.wav", "a.ecdc") and "add -r" in found[1][1]
    assert "holds no file that ends in .wav, .flac" in places("empty", recursive=True)[0][1]
    Path("sounds/a.wav").touch()
    again = places("a.wav", "sounds/a.wav", output="out")
    assert again[0][1] == "out/a.ecdc" and "as another file is" in again[1][1]


def test_many_files_do_not_go_into_one(tree: Path) -> None:
    with pytest.raises(OutputError, match="stdout takes one file"):
        places("a.wav", "sounds/b.WAV", output="-")
    with pytest.raises(OutputError, match="do not go into the one file"):
        places("a.wav", "sounds/b.WAV", output="sounds/notes.txt")
