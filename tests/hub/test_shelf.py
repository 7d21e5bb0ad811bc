import json
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


@pytest.mark.parametrize(
    ("header", "borrows"),
    [
        ({"kind": "mel", "config": {"vocoder": None}}, True),
        ({"kind": "mel", "config": {}}, True),
        ({"kind": "mel", "config": {"vocoder": {"channels": 16}}}, False),
        ({"kind": "spectral", "config": {}}, False),
        ({"kind": "mel", "config": []}, False),
        ([], False),
        (None, False),
    ],
)
def test_a_codec_of_mels_without_a_vocoder_borrows_one(header: object, borrows: bool, tmp_path: Path) -> None:
    if header is not None:
        (tmp_path / "config.json").write_text(json.dumps(header))
    assert shelf.borrowed(tmp_path) == ([shelf.on_shelf(shelf.VOCODER)] if borrows else [])
