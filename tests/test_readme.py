"""What the README prints runs: its examples on the bundled model, or on random weights where that is not there yet.

Examples run as they are printed, in one folder and in their order; only the steps of training are cut to one.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audiogen_cli.hub import catalog

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ONE_STEP = ("--steps", "1", "--batch-size", "2")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def shelf(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where sounds-small lies: the repository's, or a tiny one of its name."""
    if catalog.DEFAULT_MODEL in catalog.bundled():
        return ROOT / "weights"
    folder = tmp_path_factory.mktemp("shelf")
    (folder / catalog.DEFAULT_MODEL).symlink_to(tiny_model)
    return folder


@pytest.fixture
def in_folder(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(catalog, "SHELVES", (shelf,))
    yield


def test_examples_run_as_printed(in_folder: None) -> None:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    assert sum(line.startswith("audiolm ") for line in lines) >= 12
    for line in lines:
        run(line)
    for name in ("cat.flac", "cat.png", "longer.wav", "sounds/church-bells-7.wav", "runs/lm/model"):
        assert Path(name).exists(), name
    assert Path("again.flac").read_bytes() == Path("cat.flac").read_bytes()


def run(line: str) -> None:
    from audiogen_cli.cli.main import app

    program, *arguments = shlex.split(line)
    if program != "audiolm":
        subprocess.run(line, shell=True, check=True)
        return
    if "--steps" in arguments:
        arguments += ONE_STEP
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, f"{line}\n{result.output}"


def test_the_python_example_runs(in_folder: None) -> None:
    [example] = blocks("python")
    exec(compile(example, "README.md", "exec"), {})
    assert Path("dog.wav").stat().st_size > 10_000


def test_the_first_two_commands_are_the_whole_set_up() -> None:
    """They are the first code in the README, and .ci/run takes its own from there."""
    first, second = blocks("sh")
    assert README.index(first) < README.index(second) < README.index("```bash")
    assert first == (
        'python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/audiolm generate "dog barking in rain"\n'
    )
    assert second == ("python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/python -m pytest\n")
    assert "grep -m 1 -- '-m pytest' README.md" in (ROOT / ".ci" / "run").read_text()


def test_every_option_named_in_the_readme_exists() -> None:
    from typer.main import get_command

    from audiogen_cli.cli.main import app

    known = {"--help", "--extra-index-url", "--no-deps"}
    groups = [get_command(app)]
    while groups:
        command = groups.pop()
        known |= {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)}
        groups += getattr(command, "commands", {}).values()
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) <= known


def test_every_local_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        if target != "weights/README.md" or catalog.DEFAULT_MODEL in catalog.bundled():
            assert (ROOT / target).exists(), target
