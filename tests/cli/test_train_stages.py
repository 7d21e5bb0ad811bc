"""An AudioLM from the command line alone: centroids, three stages, one model, a continued recording."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import Result

from audiogen_cli.data import audio

RECIPE = """
[model]
dim = 16
num_layers = 1
num_heads = 2
window_seconds = 1.0

[loop]
steps = 2
batch_size = 2
workers = 0
"""


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    (tmp_path / "sounds").mkdir()
    for index, name in enumerate(("dog barking", "rain", "bell")):
        noise = torch.randn(1, 5_000, generator=torch.Generator().manual_seed(index)) * 0.1
        audio.write(tmp_path / f"sounds/{name}.wav", noise, 8_000)
    (tmp_path / "tiny.toml").write_text(RECIPE)
    return tmp_path / "sounds"


def trained(audiolm: Callable[..., Result], sounds: Path, speech_model: Path, tiny_model: Path, *more: object) -> None:
    def done(*arguments: object) -> None:
        result = audiolm(*arguments)
        assert result.exit_code == 0, result.output

    words = ("--encoder", speech_model, "--kmeans", "km.safetensors")
    codec = ("--codec", tiny_model / "codec")
    done("train", "kmeans", "--data", sounds, "-o", "km.safetensors", *words[:2], "--layer", 1, "--codes", 6)
    same = ("--data", sounds, "--recipe", "tiny.toml")
    done("train", "semantic", *same, "-o", "runs/semantic", *words, *more)
    done("train", "coarse", *same, "-o", "runs/coarse", *words, *codec)
    done("train", "fine", *same, "-o", "runs/fine", *codec)
    stages = [part for name in ("semantic", "coarse", "fine") for part in (f"--{name}", f"runs/{name}")]
    done("train", "join", "-o", "speech", *stages, *words, *codec)


def test_from_recordings_to_a_continued_one(
    audiolm: Callable[..., Result], sounds: Path, speech_model: Path, tiny_model: Path, tmp_path: Path
) -> None:
    trained(audiolm, sounds, speech_model, tiny_model)
    noise = torch.randn(2, 22_050, generator=torch.Generator().manual_seed(9)) * 0.1
    audio.write(tmp_path / "prompt.wav", noise, 44_100)
    made = audiolm("continue", "prompt.wav", "--model", "speech", "--seconds", 0.8, "--seed", 3, "-o", "a.wav")
    assert made.exit_code == 0, made.output
    prompt, whole = audio.read("prompt.wav").waveform, audio.read("a.wav")
    assert whole.sample_rate == 44_100 and whole.waveform.shape[0] == 2
    assert torch.equal(whole.waveform[:, : prompt.shape[1]], prompt)
    assert prompt.shape[1] < whole.waveform.shape[1] <= prompt.shape[1] + round(0.8 * 44_100)
    again = audiolm("generate", "prompt.wav", "--model", "speech", "--seconds", 0.8, "--seed", 3, "-o", "b.wav")
    assert again.exit_code == 0, again.output
    assert torch.equal(audio.read("b.wav").waveform, whole.waveform)
    like = audiolm("continue", "prompt.wav", "--like", "a.wav", "-o", "c.wav")
    assert like.exit_code == 0, like.output
    assert Path("a.wav").read_bytes() == Path("c.wav").read_bytes()
    free = audiolm("generate", "--unconditional", "--model", "speech", "--seconds", 0.5, "-n", 2)
    assert free.exit_code == 0 and len(free.stdout.splitlines()) == 2, free.output
    refused = audiolm("generate", "dog barking", "--model", "speech", "--seconds", 0.5)
    assert refused.exit_code == 2 and "none of this model's stages reads text" in refused.stderr


def test_one_stage_in_place_of_two(
    audiolm: Callable[..., Result], sounds: Path, speech_model: Path, tiny_model: Path, refused: Callable[..., str]
) -> None:
    Path("depth.toml").write_text(RECIPE.replace("[loop]", "depth_dim = 16\ndepth_layers = 1\n\n[loop]"))
    words = ("--encoder", speech_model, "--kmeans", speech_model / "kmeans.safetensors")
    codec = ("--codec", tiny_model / "codec")
    data = ("--data", sounds)
    join = ("train", "join", "-o", "speech", "--semantic", "runs/semantic", *words, *codec, "--coarse")
    draft = ("--draft", "runs/semantic")
    for arguments in (
        ("train", "semantic", *data, "--recipe", "tiny.toml", "-o", "runs/semantic", *words),
        ("train", "depth", *data, "--recipe", "depth.toml", "-o", "runs/depth", *words, *codec),
        (*join, "runs/depth", *draft),
    ):
        result = audiolm(*arguments)
        assert result.exit_code == 0, result.output
    for index, arguments in enumerate((("--unconditional",), (sounds / "rain.wav",))):
        made = audiolm("generate", *arguments, "--model", "speech", "--seconds", 0.3, "-o", f"{index}.wav")
        assert made.exit_code == 0, made.output
        assert audio.read(f"{index}.wav").waveform.isfinite().all()
    shutil.rmtree("speech")
    assert "leave it out" in refused(*join, "runs/depth", "--fine", "runs/depth", exit_code=4)


def test_prepared_ids_are_those_of_the_sound(
    audiolm: Callable[..., Result], sounds: Path, speech_model: Path, tiny_model: Path
) -> None:
    words = ("--encoder", speech_model, "--kmeans", speech_model / "kmeans.safetensors")
    codec = ("--codec", tiny_model / "codec")
    made = audiolm("prepare", sounds, "-o", "ids", "--model", tiny_model, *words)
    assert made.exit_code == 0, made.output
    assert Path("ids/semantic/tokens.json").is_file()
    losses = []
    for data, more in ((sounds, ()), ("ids", ("--tokens",))):
        run = f"run-{len(losses)}"
        done = audiolm("train", "coarse", "--data", data, "--recipe", "tiny.toml", "-o", run, *words, *codec, *more)
        assert done.exit_code == 0, done.output
        log = [json.loads(line) for line in Path(run, "log.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in log if line["kind"] == "step"])
    assert len(losses[1]) == 2 and all(0 < loss < 10 for loss in losses[0] + losses[1])
    wrong = audiolm("prepare", sounds, "-o", "other", "--encoder", speech_model, "--no-tokens")
    assert wrong.exit_code == 2 and "give --kmeans FILE" in wrong.stderr
    wrong = audiolm("prepare", sounds, "-o", "other", "--kmeans", speech_model / "kmeans.safetensors")
    assert wrong.exit_code == 2 and "give --encoder as well" in wrong.stderr


def test_a_vq_wav2vec_needs_no_centroids(audiolm: Callable[..., Result], sounds: Path) -> None:
    from audiogen_cli.hub import checkpoint
    from audiogen_cli.models.vq_wav2vec import VQWav2Vec, VQWav2VecConfig

    checkpoint.save("vq", VQWav2Vec(VQWav2VecConfig(convolutions=((8, 10, 5), (8, 64, 32)), num_codes=4)))
    done = audiolm("train", "semantic", "--data", sounds, "--recipe", "tiny.toml", "-o", "run", "--encoder", "vq")
    assert done.exit_code == 0, done.output
    block = json.loads(Path("run/model/config.json").read_text())["config"]["blocks"][0]
    assert block["codebook_size"] == 16


def test_text_steers_a_model_that_reads_it(
    audiolm: Callable[..., Result], sounds: Path, speech_model: Path, tiny_model: Path
) -> None:
    Path("text.toml").write_text(RECIPE.replace("[loop]", 'conditioning = "prefix"\n\n[loop]'))
    shutil.copy("tiny.toml", "plain.toml")
    trained(audiolm, sounds, speech_model, tiny_model, "--recipe", "text.toml", "--text", tiny_model / "text")
    assert Path("speech/text/model.safetensors").is_file()
    made = audiolm("generate", "dog barking", "--model", "speech", "--seconds", 0.5, "-o", "dog.wav")
    assert made.exit_code == 0, made.output
    info = audiolm("info", "dog.wav")
    assert "dog barking" in info.stdout


def test_what_cannot_be_used_is_a_sentence(
    refused: Callable[..., str], sounds: Path, speech_model: Path, tiny_model: Path, tmp_path: Path
) -> None:
    assert "end in .safetensors" in refused(
        "train", "kmeans", "--data", sounds, "-o", "km.bin", "--encoder", speech_model, exit_code=3
    )
    assert "audiolm train kmeans" in refused(
        "train", "semantic", "--data", sounds, "-o", "run", "--encoder", speech_model, "--kmeans", "none.safetensors",
        exit_code=4,
    )  # fmt: skip
    assert "too few" in refused(
        "train", "kmeans", "--data", sounds, "-o", "km.safetensors", "--encoder", speech_model, "--layer", 1,
        exit_code=2,
    )  # fmt: skip
