"""audiolm compress | decompress, on the tiny model."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from audiogen_cli.data import audio
from audiogen_cli.formats import ecdc

Run = Callable[..., Result]
Refused = Callable[..., str]


def recording(name: str, seconds: float = 0.5, rate: int = 11_025, channels: int = 2) -> Path:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    noise = torch.randn(channels, round(seconds * rate), generator=torch.Generator().manual_seed(len(name))) * 0.1
    audio.write(name, noise, rate)
    return Path(name)


@pytest.fixture
def small(audiolm: Run, tiny_model: Path) -> Run:
    """compress or decompress with the tiny model."""
    return lambda command, *rest: audiolm(command, *rest, "--model", tiny_model)


def test_there_and_back(small: Run) -> None:
    recording("bell.wav")
    result = small("compress", "bell.wav")
    assert (result.exit_code, result.stdout) == (0, "bell.ecdc\n"), result.output
    header, row = result.stderr.splitlines()[-2:]
    assert header.split("\t") == ["file", "seconds", "bytes", "kbps", "ratio", "times real time"]
    assert row.split("\t")[:3] == ["bell.wav", "0.5", str(Path("bell.ecdc").stat().st_size)]
    Path("bell.wav").rename("before.wav")
    result = small("decompress", "bell.ecdc")
    assert (result.exit_code, result.stdout) == (0, "bell.wav\n"), result.output
    assert audio.info("bell.wav")[:3] == audio.info("before.wav")[:3]
    assert small("decompress", "bell.ecdc", "--as-decoded", "--bit-depth", "24", "-o", "b.flac").exit_code == 0
    assert audio.info("b.flac")[:5] == (0.5, 8_000, 1, "FLAC", "PCM_24")


def test_the_rate_is_chosen_and_the_same_input_gives_the_same_bytes(small: Run) -> None:
    recording("bell.wav", seconds=2.0)
    for kbps, codebooks in (("0.2", 1), ("0.8", 4)):
        small("compress", "bell.wav", "--kbps", kbps, "-o", f"{kbps}.ecdc")
        small("compress", "bell.wav", "--kbps", kbps, "-o", "again.ecdc", "--force")
        assert Path("again.ecdc").read_bytes() == Path(f"{kbps}.ecdc").read_bytes()
        with open("again.ecdc", "rb") as file:
            assert ecdc.read_header(file).codebooks == codebooks
            assert len(file.read()) == 2 * 50 * 4 * codebooks / 8
    assert "ask for 0.2 to 0.8" in small("compress", "bell.wav", "--kbps", "9").stderr


def test_a_search_is_asked_for(small: Run) -> None:
    recording("bell.wav")
    made = set()
    for width in ("1", "16"):
        small("compress", "bell.wav", "--search", width, "-o", f"{width}.ecdc")
        assert small("decompress", f"{width}.ecdc").exit_code == 0
        made.add(Path(f"{width}.ecdc").read_bytes())
    assert len(made) == 2
    assert small("compress", "bell.wav", "--search", "0").exit_code == 2


def test_folders_are_mirrored_and_one_bad_file_does_not_stop_the_others(small: Run) -> None:
    recording("sounds/a.wav")
    recording("sounds/deep/b.flac", channels=1)
    Path("sounds/bad.wav").write_text("this is no sound, really not")
    Path("sounds/empty.wav").touch()
    result = small("compress", "sounds", "-r", "-o", "out")
    assert result.exit_code == 2 and result.stdout.splitlines() == ["out/a.ecdc", "out/deep/b.ecdc"]
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert ["bad.wav" in errors[0], "empty.wav" in errors[1], len(errors)] == [True, True, 2]
    assert "2 of 4 files failed" in result.stderr
    assert sorted(p.name for p in Path("out").rglob("*") if p.is_file()) == ["a.ecdc", "b.ecdc"]
    Path("out/cut.ecdc").write_bytes(Path("out/a.ecdc").read_bytes()[:-3])
    result = small("decompress", "out", "-r", "-o", "back", "--json")
    assert result.exit_code == 2 and "out/cut.ecdc: " in result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["path"] for each in found] == ["back/a.wav", "back/deep/b.wav"]
    assert {"seconds", "bytes", "kbps", "ratio", "times_real_time"} < set(found[0])
    assert sorted(p.name for p in Path("back").rglob("*") if p.is_file()) == ["a.wav", "b.wav"]


def test_stdin_and_stdout(small: Run, tiny_model: Path) -> None:
    from audiogen_cli.cli.main import app

    bell = recording("bell.wav")
    small("compress", "bell.wav")
    runner, model = CliRunner(), ["--model", str(tiny_model)]
    squeezed = runner.invoke(app, ["compress", "-", *model], input=bell.read_bytes())
    assert squeezed.exit_code == 0 and squeezed.stdout_bytes == Path("bell.ecdc").read_bytes()
    back = runner.invoke(app, ["decompress", "-", *model], input=squeezed.stdout_bytes)
    small("decompress", "bell.ecdc", "-o", "x.wav")
    assert back.exit_code == 0 and back.stdout_bytes == Path("x.wav").read_bytes()
    damaged = runner.invoke(app, ["decompress", "-", *model], input=squeezed.stdout_bytes[:-1] + b"?")
    assert damaged.exit_code == 2 and damaged.stdout_bytes == b"" and "stdin: " in damaged.stderr


def test_with_an_entropy_model_beside_the_codec(small: Run, audiolm: Run, tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    from audiogen_cli.hub import checkpoint, codecs
    from audiogen_cli.models.entropy import EntropyLM, EntropyLMConfig

    recording("bell.wav")
    assert "there is no entropy model" in small("compress", "bell.wav", "--lm").stderr
    shutil.copytree(tiny_model, "with")
    fingerprint = codecs.load("with").codec.fingerprint()
    sizes = {"num_codebooks": 4, "codebook_size": 16, "dim": 16, "num_layers": 1, "num_heads": 2, "past_context": 9}
    checkpoint.save("with/entropy", EntropyLM(EntropyLMConfig(**sizes, codec_fingerprint=fingerprint)))
    audiolm("compress", "bell.wav", "--lm", "--model", "with", "-o", "lm.ecdc")
    small("compress", "bell.wav", "-o", "plain.ecdc")
    audiolm("decompress", "lm.ecdc", "--model", "with")
    small("decompress", "plain.ecdc")
    assert Path("lm.wav").read_bytes() == Path("plain.wav").read_bytes()
    audiolm("compress", "bell.wav", "--model", "with", "-o", "default.ecdc")
    assert Path("default.ecdc").read_bytes() == Path("lm.ecdc").read_bytes()
    audiolm("compress", "bell.wav", "--no-lm", "--model", "with", "-o", "without.ecdc")
    with open("without.ecdc", "rb") as file:
        assert not ecdc.read_header(file).lm


def test_nothing_is_overwritten_unless_told(small: Run, refused: Refused, tiny_model: Path) -> None:
    recording("bell.wav")
    model = ("--model", tiny_model)
    small("compress", "bell.wav")
    before = Path("bell.wav").read_bytes()
    assert "--force" in refused("decompress", "bell.ecdc", *model, exit_code=3)
    assert Path("bell.wav").read_bytes() == before
    assert small("decompress", "bell.ecdc", "--force").exit_code == 0
    assert Path("bell.wav").read_bytes() != before


def test_what_cannot_be_compressed_is_one_sentence(refused: Refused, tiny_model: Path) -> None:
    recording("bell.wav")
    Path("folder").mkdir()
    audio.write("nan.wav", torch.full((1, 8000), torch.nan), 8000, bit_depth="float")
    audio.write("nothing.wav", torch.zeros(1, 0), 8000)
    expected = {
        ("missing.wav",): "no such file",
        ("nan.wav",): "not numbers",
        ("nothing.wav",): "0 samples",
        ("folder",): "add -r",
        ("folder", "-r"): "holds no file",
    }
    for arguments, words in expected.items():
        assert words in refused("compress", *arguments, "--model", tiny_model, exit_code=2)
    assert "there is no model" in refused("compress", "bell.wav", "--model", "nonsense", exit_code=4)


def test_what_cannot_be_decompressed_is_one_sentence(small: Run, refused: Refused, tiny_model: Path) -> None:
    recording("bell.wav")
    small("compress", "bell.wav")
    data = Path("bell.ecdc").read_bytes()
    with open("foreign.ecdc", "wb") as file:
        ecdc.write_header(file, ecdc.Header("evil/codec", 8000, 2, False))
    Path("empty.ecdc").touch()
    Path("sound.ecdc").write_bytes(Path("bell.wav").read_bytes())
    Path("cut.ecdc").write_bytes(data[:-1])
    Path("flipped.ecdc").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    Path("huge.ecdc").write_bytes(b"ECDC\0\xff\xff\xff\xff{}")
    Path("long.ecdc").write_bytes(data.replace(b'"al": 4000', b'"al": 9000'))
    model = ("-o", "x.wav", "--model", tiny_model)
    expected = {"empty": "empty file", "sound": "no .ecdc file", "cut": "too short", "flipped": "damaged"}
    expected |= {"huge": "4294967295", "long": "too short", "missing": "No such file"}
    for name, words in expected.items():
        sentence = refused("decompress", f"{name}.ecdc", *model, exit_code=2)
        assert words in sentence and f"{name}.ecdc" in sentence, sentence
    assert "--model" in refused("decompress", "foreign.ecdc", "-o", "x.wav", exit_code=4)
    assert "compressed with evil/codec" in refused("decompress", "foreign.ecdc", *model, exit_code=4)
    contradiction = ("-o", "x.wav", "--format", "flac", "--model", tiny_model)
    assert "change one of them" in refused("decompress", "bell.ecdc", *contradiction, exit_code=3)
    assert ".wav or .flac" in refused("decompress", "bell.ecdc", "-o", "x.mp3", "--model", tiny_model, exit_code=3)


def test_a_full_disk_leaves_nothing(small: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    recording("bell.wav")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = small("compress", "bell.wav")
    assert result.exit_code == 3 and "the disk is full" in result.stderr
    assert sorted(os.listdir()) == ["bell.wav"]


def test_help_imports_nothing_heavy() -> None:
    for command in ("compress", "decompress"):
        code = (
            f"import sys\nfrom audiogen_cli.cli.main import app\napp(['{command}', '--help'], standalone_mode=False)\n"
        )
        code += "assert not {'torch', 'numpy', 'soundfile'} & set(sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
