import json

import torch
import typer
from typer.testing import CliRunner

from audiogen_cli.cli import dataset
from audiogen_cli.data import audio, manifest

app = typer.Typer()
app.command()(dataset.prepare)


def test_prepare_writes_a_manifest_and_says_where_and_what_it_left_out(tmp_path):
    (tmp_path / "in").mkdir()
    audio.write(tmp_path / "in" / "dog_[bark].wav", torch.zeros(1, 1000), 1000)
    (tmp_path / "in" / "broken_[file].wav").write_text("no")
    result = CliRunner().invoke(app, [str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--no-tokens"])
    assert result.exit_code == 0
    assert result.stdout.strip() == str(tmp_path / "out" / "manifest.jsonl")
    assert "broken_[file].wav" in result.stderr and "1 recordings" in result.stderr
    assert [clip.caption for clip in manifest.read(result.stdout.strip())] == ["dog bark"]


def test_prepare_tells_the_same_as_json(tmp_path):
    audio.write(tmp_path / "rain.wav", torch.zeros(1, 1000), 1000)
    result = CliRunner().invoke(app, [str(tmp_path), "-o", str(tmp_path / "out"), "--no-tokens", "--json"])
    told = json.loads(result.stdout)
    assert (told["clips"], told["seconds"], told["problems"]) == (1, 1.0, [])
