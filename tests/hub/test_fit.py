"""Parts that do not belong together are refused in a sentence; hub/test_catalog.py has those of a codec."""

import json
import shutil
from pathlib import Path

import pytest

from audiogen_cli.errors import ModelError
from audiogen_cli.hub import catalog


def test_an_outline_without_the_parts_that_go_with_it_is_refused(
    planning_model: Path, tiny_model: Path, tmp_path: Path
) -> None:
    for name in ("no planner", "deaf", "other"):
        shutil.copytree(planning_model, tmp_path / name)
    for part in catalog.PLANNING_PARTS:
        shutil.rmtree(tmp_path / "no planner" / part)
    shutil.rmtree(tmp_path / "deaf" / "lm")
    shutil.copytree(tiny_model / "lm", tmp_path / "deaf" / "lm")
    header = json.loads((tmp_path / "other" / "lm" / "config.json").read_text())
    header["config"]["outline_fingerprint"] = "0" * 12
    (tmp_path / "other" / "lm" / "config.json").write_text(json.dumps(header))
    for name, words in (("no planner", "no planner"), ("deaf", "hears no outline"), ("other", "fills in outline 0")):
        with pytest.raises(ModelError, match=words):
            catalog.load(tmp_path / name)
