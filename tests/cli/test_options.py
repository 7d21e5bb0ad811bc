"""Options are declared once and shared."""

from __future__ import annotations

import ast
from pathlib import Path

from typer.main import get_command

from audiogen_cli.cli import options
from audiogen_cli.cli.main import app

FOLDER = Path(options.__file__).parent


def test_the_options_of_sound_are_declared_in_one_file() -> None:
    for name in ("generate.py", "info.py", "models.py"):
        tree = ast.parse((FOLDER / name).read_text())
        flags = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and str(n.value).startswith("--")]
        assert {flag for flag in flags if " " not in str(flag)} <= {"--text"}


def test_every_option_has_help_and_no_two_share_a_flag() -> None:
    for command in get_command(app).commands.values():  # type: ignore[attr-defined]
        flags = [flag for param in command.params for flag in param.opts]
        assert len(flags) == len(set(flags))
        for param in command.params:
            assert getattr(param, "help", None), f"{command.name} {param.name}"
