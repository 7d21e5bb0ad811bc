"""audiolm models list and info."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from audiogen_cli.hub import catalog

Run = Callable[..., Result]


def test_bundled_models_are_listed(audiolm: Run, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "SHELVES", (tiny_model.parent, Path("nowhere")))
    assert audiolm("models", "list").stdout.startswith("tiny\tbundled\tMIT\trandom noise, for tests\n")
    assert json.loads(audiolm("models", "list", "--json").stdout.splitlines()[0])["name"] == "tiny"


def test_info_shows_one_model(audiolm: Run, tiny_model: Path) -> None:
    data = json.loads(audiolm("models", "info", tiny_model, "--json").stdout)
    assert (data["name"], data["licence"], data["sampling"]["top_k"]) == ("tiny", "MIT", 8)
    assert data["hash"] in audiolm("models", "info", tiny_model).stdout
    assert "steps" not in data["sampling"]  # of a flow


def test_info_shows_the_steps_of_a_flow(audiolm: Run, flow_model: Path) -> None:
    assert json.loads(audiolm("models", "info", flow_model, "--json").stdout)["sampling"]["steps"] > 0


def test_an_unknown_model_is_one_sentence(refused: Callable[..., str]) -> None:
    assert "there is no model 'x'" in refused("models", "info", "x", exit_code=4)
