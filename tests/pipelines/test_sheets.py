"""Sheets of spectrograms: their places, and what is refused."""

import struct

import pytest
import torch

from audiogen_cli.errors import OutputError
from audiogen_cli.pipelines import sheets

NOISE = 0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(0))


def test_generated_stands_left_of_the_broad_bar_and_real_right_of_it():
    panel = sheets.panel(NOISE)
    whole = sheets.sheet([NOISE, NOISE], [NOISE])
    height, width = panel.shape
    assert whole.shape == (height, 3 * width + 4 + 24)
    light = (whole == 1.0).all(dim=0)
    assert light.nonzero().flatten().tolist() == [*range(width, width + 4), *range(2 * width + 4, 2 * width + 28)]
    assert torch.equal(sheets.sheet([NOISE], []), panel)


def test_a_folder_of_pictures_has_a_page_that_names_them(tmp_path):
    sheets.write_sheets(tmp_path / "new", "tiny (0)", ["a dog, barking", "rain"], [[NOISE]] * 2, [[NOISE], []])
    names = ["01-a-dog-barking.png", "02-rain.png"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [*names, "README.md"]
    page = (tmp_path / "new" / "README.md").read_text()
    assert page.startswith("# tiny (0)\n") and all(name in page for name in names)
    width = [struct.unpack(">I", (tmp_path / "new" / name).read_bytes()[16:20])[0] for name in names]
    assert width[0] == 2 * width[1] + 24


def test_sheets_do_not_mingle_with_what_is_there(tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path, tmp_path / "file", tmp_path / "missing" / "sheets"):
        with pytest.raises(OutputError):
            sheets.check_folder(folder)
    sheets.check_folder(tmp_path, force=True)
    sheets.check_folder(tmp_path / "new")
