from pathlib import Path

import pytest

from audiogen_cli.errors import ModelError
from audiogen_cli.hub import shelf


def test_the_first_shelf_that_has_it_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "part").mkdir(parents=True)
    monkeypatch.setattr(shelf, "SHELVES", (tmp_path / "none", tmp_path / "one", tmp_path / "two"))
    assert shelf.on_shelf(Path("part")) == tmp_path / "one" / "part"


def test_what_did_not_come_along_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "SHELVES", (tmp_path,))
    with pytest.raises(ModelError, match="did not come with this installation"):
        shelf.on_shelf(shelf.VOCODER)
