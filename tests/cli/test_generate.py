"""audiolm generate and continue, on a model of random noise: the files they write, and what they refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
import torch
from typer.testing import Result

from audiogen_cli.data import audio
from audiogen_cli.errors import OutputError
from audiogen_cli.models.decoding import finish
from audiogen_cli.pipelines import generate as pipeline
from audiogen_cli.pipelines.recipe import from_comment

Run = Callable[..., Result]
Refused = Callable[..., str]


def test_a_prompt_becomes_a_file_named_after_it(audiolm: Run) -> None:
    result = audiolm("generate", "Dog barking, in rain!", "--seconds", 1.5, "--seed", 7)
    assert result.exit_code == 0, result.output
    assert result.stdout == "dog-barking-in-rain-7.wav\n"
    found = audio.info("dog-barking-in-rain-7.wav")
    assert (found.seconds, found.sample_rate, found.channels, found.subtype) == (1.5, 8000, 1, "PCM_16")


def test_the_same_seed_makes_the_same_bytes_and_another_seed_others(audiolm: Run) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        audiolm("generate", "rain", "--seconds", 1.5, "--seed", seed, "-o", f"{name}.wav")
    a, b, c = (Path(f"{name}.wav").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_without_a_seed_every_run_is_new_and_says_its_seed(audiolm: Run) -> None:
    first, second = (audiolm("generate", "rain", "--seconds", 0.2) for _ in range(2))
    assert first.stdout != second.stdout
    seed = first.stdout.split("-")[1].split(".")[0]
    assert f"seed {seed}:" in first.stderr


def test_variations_and_several_prompts_are_the_single_runs(audiolm: Run) -> None:
    result = audiolm("generate", "rain", "a bell in the wind", "-n", 3, "--seed", 5, "--seconds", 0.5)
    assert result.stdout.split() == [f"{s}-{i}.wav" for s in ("rain", "a-bell-in-the-wind") for i in (5, 6, 7)]
    audiolm("generate", "rain", "--seed", 6, "--seconds", 0.5, "-o", "single.wav")
    assert Path("single.wav").read_bytes() == Path("rain-6.wav").read_bytes()
    audiolm("generate", "a bell in the wind", "--seed", 7, "--seconds", 0.5, "-o", "bell.wav")
    assert Path("bell.wav").read_bytes() == Path("a-bell-in-the-wind-7.wav").read_bytes()


@pytest.mark.parametrize(
    "arguments",
    [
        ("rain.wav",),
        ("rain.flac", "--bit-depth", 24, "--normalize", "peak", "--top-p", 0.9, "--temperature", 0.7),
        ("rain.ogg", "--guidance", 1, "--fade", 0.2, "--top-k", 3),
        ("rain.wav", "--bit-depth", "float", "--normalize", "none", "--fade", 0),
    ],
)
def test_like_makes_the_same_bytes(audiolm: Run, arguments: tuple[object, ...]) -> None:
    name, *settings = arguments
    made = audiolm("generate", "rain", "--seconds", 1.3, "--seed", 3, "-o", name, *settings)
    assert made.exit_code == 0, made.output
    again = audiolm("generate", "--like", name, "-o", f"again-{name}")
    assert again.exit_code == 0, again.output
    assert Path(f"again-{name}").read_bytes() == Path(str(name)).read_bytes()


def test_a_flow_has_steps_and_neither_top_k_nor_top_p(audiolm: Run, refused: Refused, flow_model: Path) -> None:
    rain = ("generate", "rain", "--seconds", 0.5, "--seed", 3, "--model", flow_model)
    assert audiolm(*rain, "-o", "own.wav").exit_code == 0
    assert audiolm(*rain, "-o", "five.wav", "--steps", 5).exit_code == 0
    for name, steps in (("own.wav", 3), ("five.wav", 5)):
        recipe = from_comment(audio.info(name).comment)
        assert recipe is not None and (recipe.steps, recipe.top_k, recipe.top_p) == (steps, 0, 0.0)
        assert audiolm("generate", "--like", name, "-o", f"again-{name}", "--model", flow_model).exit_code == 0
        assert Path(f"again-{name}").read_bytes() == Path(name).read_bytes()
    assert not torch.equal(audio.read("own.wav").waveform, audio.read("five.wav").waveform)
    assert "--top-k means nothing to flowing" in refused(*rain, "--top-k", 3, "-o", "x.wav", exit_code=2)
    assert "--top-p means nothing to flowing" in refused(*rain, "--top-p", 0.5, "-o", "x.wav", exit_code=2)
    assert "--steps means nothing to tiny" in refused("generate", "rain", "--steps", 3, "-o", "x.wav", exit_code=2)
    more = audiolm("continue", "own.wav", "--seconds", 0.4, "--model", flow_model, "--steps", 2, "-o", "more.wav")
    assert more.exit_code == 0, more.output


def test_layers_are_made_where_they_are_asked_for_and_told(audiolm: Run, refused: Refused) -> None:
    both = ("generate", "dog barking in rain", "--seconds", 0.5, "--seed", 3)
    plain, layered = (audiolm(*both, *more) for more in (("-o", "plain.wav"), ("--layers", "-o", "layered.wav")))
    assert "made as" not in plain.stderr
    assert '"dog barking in rain" is made as: dog barking + rain\n' in layered.stderr
    assert Path("plain.wav").read_bytes() != Path("layered.wav").read_bytes()
    for name, layers in (("plain.wav", False), ("layered.wav", True)):
        recipe = from_comment(audio.info(name).comment)
        assert recipe is not None and recipe.layers is layers
        assert audiolm("generate", "--like", name, "-o", f"again-{name}").exit_code == 0
        assert Path(f"again-{name}").read_bytes() == Path(name).read_bytes()
    assert "leave out --layers" in refused("generate", "plain.wav", "--layers", "-o", "x.wav", exit_code=2)


def test_words_that_are_read_as_others_are_told(audiolm: Run, tiny_model: Path) -> None:
    folder = shutil.copytree(tiny_model, "reading")
    (Path(folder) / "words.txt").write_text("a dog: mutt\n")
    made = audiolm("generate", "a mutt", "--seconds", 0.3, "--seed", 3, "--model", folder)
    assert made.stdout == "a-mutt-3.wav\n" and '"a mutt" is made as: a dog\n' in made.stderr
    more = audiolm("continue", "a-mutt-3.wav", "--text", "mutts and a mutt", "--seconds", 0.3, "--model", folder)
    assert '"mutts and a mutt" is made as: mutts and a dog\n' in more.stderr


def test_every_parameter_is_in_the_file(audiolm: Run, tiny_model: Path) -> None:
    audiolm("generate", "rain", "--seed", 3, "--seconds", 0.5, "--guidance", 1.5, "--top-p", 0.5, "-o", "rain.flac")
    recipe = from_comment(audio.info("rain.flac").comment)
    assert recipe is not None
    assert (recipe.prompt, recipe.seed, recipe.seconds, recipe.format) == ("rain", 3, 0.5, "flac")
    assert (recipe.guidance, recipe.top_p, recipe.top_k, recipe.temperature) == (1.5, 0.5, 8, 1.0)
    assert (recipe.model, recipe.device, recipe.dtype) == (str(tiny_model), "cpu", "float32")
    assert len(recipe.model_hash) == 12


def test_without_normalization_and_fade_the_decoders_samples_are_written(audiolm: Run, tiny_model: Path) -> None:
    from audiogen_cli.hub import catalog

    raw = ("--normalize", "none", "--fade", 0, "--bit-depth", "float", "-o", "raw.wav")
    audiolm("generate", "rain", "--seed", 1, "--seconds", 0.5, *raw)
    model = catalog.load(tiny_model)
    [expected] = finish(pipeline.generate(model, ["rain"], 0.5, [1], normalize="none", fade=0.0))
    assert torch.equal(audio.read("raw.wav").waveform, expected)


def test_json_is_one_object_a_file(audiolm: Run) -> None:
    result = audiolm("generate", "rain", "-n", 2, "--seed", 1, "--seconds", 0.5, "--json", "--spectrogram")
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["path"], first["spectrogram"], first["prompt"]) == ("rain-1.wav", "rain-1.png", "rain")
    assert (second["seed"], second["seconds"]) == (2, 0.5)
    assert Path("rain-2.png").read_bytes().startswith(b"\x89PNG")


def test_a_dash_sends_the_sound_to_stdout(audiolm: Run) -> None:
    audiolm("generate", "rain", "--seed", 1, "--seconds", 0.5, "-o", "rain.wav")
    result = audiolm("generate", "rain", "--seed", 1, "--seconds", 0.5, "-o", "-")
    assert result.stdout_bytes == Path("rain.wav").read_bytes()


PROMPTS = {
    "prompts.txt": "dog\n\nrain in the wind\ndog\n",
    "prompts.csv": 'caption,note\ndog,x\n"rain in the wind",y\ndog,z\n',
    "prompts.jsonl": '{"prompt": "dog"}\n{"prompt": "rain in the wind", "split": "test"}\n{"prompt": "dog"}\n',
}


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompts_file_makes_files_that_do_not_collide_and_can_be_resumed(audiolm: Run, name: str) -> None:
    Path(name).write_text(PROMPTS[name])
    arguments = ("generate", "--prompts", name, "--seconds", 0.5)
    result = audiolm(*arguments)
    assert result.stdout.split() == ["dog-0.wav", "rain-in-the-wind-0.wav", "dog-1.wav"]
    before = {path: path.read_bytes() for path in Path().glob("*.wav")}
    Path("dog-1.wav").unlink()
    kept = Path("dog-0.wav").stat().st_mtime_ns
    again = audiolm(*arguments)
    assert again.exit_code == 0 and "2 of 3 sounds are there already" in again.stderr
    assert {path: path.read_bytes() for path in Path().glob("*.wav")} == before
    assert Path("dog-0.wav").stat().st_mtime_ns == kept


def test_a_prompts_file_may_say_seed_and_seconds(audiolm: Run) -> None:
    Path("p.csv").write_text("prompt,seed,seconds\ndog,9,0.3\nrain,,\n")
    result = audiolm("generate", "--prompts", "p.csv", "--seconds", 0.5, "--seed", 4)
    assert result.stdout.split() == ["dog-9.wav", "rain-4.wav"]
    assert [audio.info(path).seconds for path in result.stdout.split()] == [0.3, 0.5]


def test_a_file_made_otherwise_is_not_taken_for_done(audiolm: Run, refused: Refused) -> None:
    Path("p.txt").write_text("dog\n")
    audiolm("generate", "--prompts", "p.txt", "--seconds", 0.5)
    assert "made otherwise" in refused("generate", "--prompts", "p.txt", "--seconds", 0.6, exit_code=2)
    assert audiolm("generate", "--prompts", "p.txt", "--seconds", 0.6, "--force").exit_code == 0


BAD = [
    (("",), 2, "the prompt is empty"),
    (("  \n",), 2, "the prompt is empty"),
    (("word " * 10_000,), 2, "shorten it"),
    ((), 2, "say what to make"),
    (("rain", "--seconds", -1), 2, "--seconds"),
    (("rain", "--seconds", 0), 2, "--seconds"),
    (("rain", "--seconds", 1e9), 2, "--seconds"),
    (("rain", "--seconds", "nan"), 2, "--seconds"),
    (("rain", "--seconds", "long"), 2, "--seconds"),
    (("rain", "--seed", -1), 2, "--seed"),
    (("rain", "--temperature", -1), 2, "--temperature"),
    (("rain", "--temperature", "nan"), 2, "--temperature"),
    (("rain", "--top-k", -1), 2, "--top-k"),
    (("rain", "--top-p", 1.5), 2, "--top-p"),
    (("rain", "--guidance", "inf"), 2, "--guidance"),
    (("rain", "--fade", -1), 2, "--fade"),
    (("rain", "-n", 0), 2, "--variations"),
    (("rain", "--model", "souns-small"), 4, "there is no model 'souns-small'"),
    (("rain", "-o", "missing/rain.wav"), 3, "missing does not exist"),
    (("rain", "-o", "missing/"), 3, "missing/ does not exist"),
    (("rain", "-o", "there.wav"), 3, "exists already"),
    (("rain", "-o", "there.wav/rain.wav"), 3, "not a folder"),
    (("rain", "-o", "rain.mp3"), 3, ".wav, .flac or .ogg"),
    (("rain", "-o", "rain.wav", "--format", "flac"), 3, "--format"),
    (("rain", "-n", 2, "-o", "rain.wav"), 3, "one file"),
    (("rain", "-n", 2, "-o", "-"), 3, "stdout takes one sound"),
    (("rain", "-o", "-", "--json"), 2, "stdout"),
    (("rain", "-o", "-", "--spectrogram"), 3, "spectrogram"),
    (("rain", "-o", "rain.flac", "--bit-depth", "float"), 2, "FLAC"),
    (("rain", "--format", "mp3"), 2, "--format"),
    (("rain", "--device", "tpu"), 2, "--device"),
    (("rain", "--nonsense"), 2, "--nonsense"),
    (("rain", "--prompts", "p.txt"), 2, "--prompts"),
    (("--prompts", "missing.txt"), 2, "missing.txt"),
    (("--prompts", "empty.txt"), 2, "holds no prompts"),
    (("--prompts", "bad.jsonl"), 2, "line 2"),
    (("--prompts", "bad.csv"), 2, "line 3"),
    (("--prompts", "there.wav"), 2, "not UTF-8"),
    (("--like", "missing.wav"), 2, "no such file"),
    (("--like", "there.wav"), 2, "does not say how it was made"),
    (("rain", "--like", "there.wav"), 2, "leave out"),
    (("--like", "there.wav", "--seed", 1), 2, "--seed"),
]


@pytest.mark.parametrize(("arguments", "exit_code", "words"), BAD, ids=[str(bad[0])[:60] for bad in BAD])
def test_bad_input_is_one_sentence(refused: Refused, arguments: tuple, exit_code: int, words: str) -> None:
    audio.write("there.wav", 0.1 * torch.randn(1, 8000), 8000)
    Path("empty.txt").write_text("\n \n")
    Path("bad.jsonl").write_text('{"prompt": "dog"}\n{"prompt": 3}\n')
    Path("bad.csv").write_text("prompt,seconds\ndog,1\nrain,soon\n")
    assert words in refused("generate", *arguments, exit_code=exit_code)


def test_another_model_cannot_make_the_same_bytes(audiolm: Run, refused: Refused, tiny_model: Path) -> None:
    audiolm("generate", "rain", "--seconds", 0.5, "-o", "rain.wav")
    shutil.copytree(tiny_model, "other")
    tokenizer = Path("other/text/tokenizer.json")
    tokenizer.write_text(tokenizer.read_text() + " ")
    like = ("--like", "rain.wav", "--model", "other", "-o", "x.wav")
    assert "was made with model" in refused("generate", *like, exit_code=4)


def test_ctrl_c_leaves_nothing_half_written(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = iter(range(3))
    draw = pipeline.decode

    def interrupted(*args: object, **kwargs: object):
        for done in draw(*args, **kwargs):
            if next(steps, None) is None:
                raise KeyboardInterrupt
            yield done

    monkeypatch.setattr(pipeline, "decode", interrupted)
    assert "interrupted" in refused("generate", "rain", "--spectrogram", exit_code=130)


def test_a_full_disk_is_one_sentence_and_leaves_no_part(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert "the disk is full" in refused("generate", "rain", "--seconds", 0.5, exit_code=3)


def test_too_little_memory_is_one_sentence(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(pipeline, "choose", greedy)
    assert "not enough memory" in refused("generate", "rain", exit_code=1)


def test_what_was_finished_before_a_failure_is_kept(audiolm: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write = audio.write

    def second_fails(path: Path, *args: object, **kwargs: object) -> None:
        if "8" in str(path):
            raise OutputError("the disk is full.")
        write(path, *args, **kwargs)

    monkeypatch.setattr(audio, "write", second_fails)
    result = audiolm("generate", "rain", "-n", 2, "--seed", 7, "--seconds", 0.2)
    assert (result.exit_code, result.stdout) == (3, "rain-7.wav\n")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """1.234 s of stereo noise at 22.05 kHz in 24 bits."""
    noise = 0.2 * torch.randn(2, 27_210, generator=torch.Generator().manual_seed(0))
    audio.write(tmp_path / "bell.wav", noise, 22_050, bit_depth="24")
    return tmp_path / "bell.wav"


def test_continue_keeps_the_recording_and_adds_new_sound(audiolm: Run, recording: Path) -> None:
    result = audiolm("continue", "bell.wav", "--text", "rain", "--seconds", 1.5, "--seed", 2)
    assert result.exit_code == 0, result.output
    assert result.stdout == "bell-continued-2.wav\n"
    before, after = (soundfile.read(path, dtype="int32")[0] for path in ("bell.wav", "bell-continued-2.wav"))
    assert audio.info("bell-continued-2.wav").subtype == "PCM_24"
    assert (after[: len(before)] == before).all()
    assert len(after) == len(before) + round(1.5 * 22_050)
    assert after[len(before) :].std() > 0
    assert "1.5 s of sound" in result.stderr


def test_a_model_that_ends_where_the_recording_does_says_so(
    audiolm: Run, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An AudioLM may: what was asked for is not what was made."""
    monkeypatch.setattr("audiogen_cli.pipelines.generate.joined", lambda recording, *_: recording)
    result = audiolm("continue", "bell.wav", "--seconds", 0.5, "--seed", 2)
    assert result.exit_code == 0, result.output
    assert "the model ends where the recording does" in result.stderr and "0.0 s of sound" in result.stderr


def test_continue_hears_the_text_and_the_recording(audiolm: Run, recording: Path) -> None:
    audio.write("low.wav", audio.read(recording).waveform * 0.05, 22_050, bit_depth="24")
    outputs = {}
    for name, source, text in (
        ("a", "bell", "rain"),
        ("b", "bell", "dog"),
        ("c", "low", "rain"),
        ("d", "bell", "rain"),
    ):
        audiolm("continue", f"{source}.wav", "--text", text, "--seconds", 0.5, "--seed", 2, "-o", f"{name}.wav")
        outputs[name] = audio.read(f"{name}.wav").waveform[:, 27_210 + 500 :]
    assert not torch.equal(outputs["a"], outputs["b"])
    assert not torch.equal(outputs["a"], outputs["c"])
    assert torch.equal(outputs["a"], outputs["d"])


def test_continue_like_makes_the_same_bytes(audiolm: Run, refused: Refused, recording: Path) -> None:
    audiolm("continue", "bell.wav", "--seconds", 0.7, "--seed", 2, "--top-k", 4)
    result = audiolm("continue", "bell.wav", "--like", "bell-continued-2.wav", "-o", "again.wav")
    assert result.exit_code == 0, result.output
    assert Path("again.wav").read_bytes() == Path("bell-continued-2.wav").read_bytes()
    like = ("--like", "again.wav", "-o", "x.wav")
    assert "another recording" in refused("continue", "again.wav", *like, exit_code=2)
    assert "audiolm continue" in refused("generate", *like, exit_code=2)


def test_what_cannot_be_continued_is_one_sentence(refused: Refused, tmp_path: Path) -> None:
    Path("empty.wav").touch()
    Path("text.wav").write_text("hello")
    audio.write("nan.wav", torch.full((1, 8000), torch.nan), 8000, bit_depth="float")
    audio.write("short.wav", torch.zeros(1, 80), 8000)
    audio.write("nothing.wav", torch.zeros(1, 0), 8000)
    expected = {
        "missing.wav": "no such file",
        "empty.wav": "empty file",
        "text.wav": "not a sound file",
        "nan.wav": "not numbers",
        "short.wav": "lasts 0.01 s",
        "nothing.wav": "no sound at all",
        ".": "folder",
    }
    for name, words in expected.items():
        assert words in refused("continue", name, exit_code=2)
