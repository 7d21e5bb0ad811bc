import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import Result

from audiogen_cli.data import audio

CODEC_RECIPE = """
[spectral]
sample_rate = 8000
hop_length = 160
analysis_ffts = [256]
analysis_hops = [160]
encoder_dim = 8
encoder_layers = 1
decoder_dim = 8
decoder_layers = 1
subframe_dim = 8
subframe_layers = 1
synthesis_fft = 320
latent_dim = 8
num_codebooks = 3
codebook_size = 16
[training]
seconds = 0.2
adversarial_start = 1
[training.discriminator]
filters = 2
n_ffts = [128]
[loop]
steps = 2
batch_size = 2
workers = 0
"""
SOUNDSTREAM_RECIPE = """
[soundstream]
channels = 2
strides = [4, 8]
channel_mults = [1, 2]
codebook_dim = 8
use_finite_scalar_quantizer = true
finite_scalar_quantizer_levels = [4, 4]
rq_groups = 2
rq_num_quantizers = 2
target_sample_hz = 8000
use_local_attn = false
[training]
seconds = 0.2
adversarial_start = 1
[training.discriminator]
filters = 2
n_ffts = [128]
[loop]
steps = 2
batch_size = 2
workers = 0
"""
LM_RECIPE = """
[model]
num_codebooks = 2
codebook_size = 16
dim = 16
num_layers = 1
num_heads = 2
window_seconds = 0.4
[training]
samples = ["rain"]
[loop]
steps = 2
batch_size = 2
workers = 0
"""


FLOW_RECIPE = """
[model]
dim = 16
num_layers = 1
num_heads = 2
window_seconds = 0.4
[training]
samples = ["rain"]
[loop]
steps = 2
batch_size = 2
workers = 0
"""


ENTROPY_RECIPE = """
[model]
dim = 8
num_layers = 1
num_heads = 2
[training]
window_seconds = 0.3
[loop]
steps = 2
batch_size = 2
workers = 0
"""


CLAP_RECIPE = """
[model]
n_fft = 256
hop_length = 160
num_mels = 16
channels = [4, 8]
hidden_dim = 8
dim = 8
[training]
pool = 6
fewest_codebooks = 2
[segments]
seconds = 0.4
[loop]
steps = 2
batch_size = 3
workers = 0
"""


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    folder = tmp_path / "sounds"
    folder.mkdir()
    for name in ("dog barking", "rain", "bell"):
        audio.write(folder / f"{name}.wav", torch.rand(1, 6_000) - 0.5, 8_000)
    (tmp_path / "codec.toml").write_text(CODEC_RECIPE)
    (tmp_path / "lm.toml").write_text(LM_RECIPE)
    (tmp_path / "entropy.toml").write_text(ENTROPY_RECIPE)
    return folder


def test_a_codec_then_a_language_model_then_a_sound(
    audiolm: Callable[..., Result], sounds: Path, tiny_model: Path
) -> None:
    result = audiolm("train", "codec", "--data", sounds, "-o", "c", "--recipe", "codec.toml")
    assert result.exit_code == 0, result.output
    assert result.stdout == "c/model\n"
    result = audiolm(
        *("train", "lm", "--data", sounds, "-o", "l", "--recipe", "lm.toml"),
        *("--codec", "c/model", "--text", tiny_model / "text"),
    )
    assert result.exit_code == 0, result.output
    assert result.stdout == "l/model\n"
    result = audiolm("generate", "rain", "--seconds", "0.4", "--model", "l/model", "-o", "out.wav", "--seed", "1")
    assert result.exit_code == 0, result.output
    assert audio.info("out.wav").seconds == pytest.approx(0.4)


MEL_RECIPE = """
[mel]
subframes = 4
subframe_dim = 8
dim = 8
latent_dim = 4
num_codebooks = 2
codebook_size = 16
texture = true
[mel.vocoder]
sample_rate = 8000
n_fft = 256
num_mels = 8
f_max = 4000.0
channels = 8
upsample_rates = [8, 8]
upsample_kernels = [16, 16]
[training]
seconds = 0.5
discriminator_start = 1
adversarial_start = 2
[training.spectrogram_discriminator]
filters = [4]
[loop]
steps = 3
batch_size = 2
"""


def test_a_mel_codec_and_a_language_model_of_its_codes(
    audiolm: Callable[..., Result], sounds: Path, tiny_model: Path
) -> None:
    Path("mel.toml").write_text(MEL_RECIPE)
    result = audiolm("train", "codec", "--data", sounds, "-o", "m", "--recipe", "mel.toml")
    assert result.exit_code == 0, result.output
    with_text = ("--recipe", "lm.toml", "--text", tiny_model / "text", "--data", sounds)
    result = audiolm("train", "lm", *with_text, "-o", "l", "--codec", "m/model")
    assert result.exit_code == 0, result.output
    result = audiolm("generate", "rain", "--seconds", "0.9", "--model", "l/model", "-o", "out.wav", "--seed", "1")
    assert result.exit_code == 0, result.output
    assert audio.info("out.wav").seconds == pytest.approx(0.9)


def test_a_flow_of_a_codecs_latents(audiolm: Callable[..., Result], sounds: Path, tiny_model: Path) -> None:
    Path("flow.toml").write_text(FLOW_RECIPE)
    parts = ("--text", tiny_model / "text", "--codec", tiny_model / "codec")
    result = audiolm("train", "flow", "--data", sounds, "-o", "f", "--recipe", "flow.toml", *parts)
    assert result.exit_code == 0, result.output
    assert result.stdout == "f/model\n" and "step 2: valid loss" in result.stderr
    made = ("generate", "rain", "--seconds", "0.9", "--model", "f/model", "--seed", "1")
    result = audiolm(*made, "-o", "out.wav")
    assert result.exit_code == 0, result.output
    assert audio.info("out.wav").seconds == pytest.approx(0.9)
    again = ("train", "flow", "--data", sounds, "--recipe", "flow.toml", *parts)
    more = audiolm(*again, "-o", "g", "--start", "f/model/flow")
    assert more.exit_code == 0, more.output
    other = audiolm(*again, "-o", "h", "--start", tiny_model / "lm")
    assert other.exit_code == 4 and "kind 'lm'" in other.stderr


def test_a_scorer_beside_a_model_chooses_among_candidates(
    audiolm: Callable[..., Result], sounds: Path, tiny_model: Path
) -> None:
    Path("clap.toml").write_text(CLAP_RECIPE)
    data = ("--data", sounds, "--text", tiny_model / "text", "--codec", tiny_model / "codec")
    result = audiolm("train", "clap", *data, "-o", "c", "--recipe", "clap.toml")
    assert result.exit_code == 0, result.output
    assert result.stdout == "c/model\n" and "step 2: top1" in result.stderr
    shutil.copytree(tiny_model, "model")
    shutil.copytree("c/model", "model/clap")
    made = audiolm("generate", "rain", "--model", "model", "--candidates", 2, "--seconds", 0.3, "-o", "rain.wav")
    assert made.exit_code == 0, made.output
    other = audiolm("train", "clap", *data[:4], "--codec", "c/model", "-o", "d")
    assert other.exit_code == 4 and "kind 'clap'" in other.stderr


def test_an_entropy_model_of_any_codec(audiolm: Callable[..., Result], sounds: Path, tiny_model: Path) -> None:
    from audiogen_cli.hub import checkpoint
    from audiogen_cli.models.entropy import EntropyLM

    arguments = ("train", "entropy", "--data", sounds, "--recipe", "entropy.toml", "--licence", "CC0")
    result = audiolm(*arguments, "-o", "e", "--codec", tiny_model / "codec", "--steps", 3)
    assert result.exit_code == 0, result.output
    assert result.stdout == "e/model\n" and "step 3: valid bits" in result.stderr and "saving" in result.stderr
    lm = checkpoint.load("e/model")
    codec = checkpoint.load(tiny_model / "codec")
    assert isinstance(lm, EntropyLM) and lm.config.codec_fingerprint == codec.fingerprint()
    assert checkpoint.read_header(Path("e/model"))["source"]["licence"] == "CC0"
    other = audiolm(*arguments, "-o", "f", "--codec", "e/model")
    assert other.exit_code == 4 and "kind 'entropy-lm'" in other.stderr


def test_a_soundstream_with_any_quantizer_is_trained_from_a_recipe(
    audiolm: Callable[..., Result], sounds: Path
) -> None:
    Path("ss.toml").write_text(SOUNDSTREAM_RECIPE)
    result = audiolm("train", "codec", "--data", sounds, "-o", "s", "--recipe", "ss.toml")
    assert result.exit_code == 0, result.output
    assert '"kind": "soundstream"' in Path("s/model/config.json").read_text()


def test_a_run_is_resumed_only_when_asked_to(audiolm: Callable[..., Result], sounds: Path) -> None:
    arguments = ("train", "codec", "--data", sounds, "-o", "c", "--recipe", "codec.toml")
    assert audiolm(*arguments).exit_code == 0
    again = audiolm(*arguments)
    assert again.exit_code == 3 and "--resume" in again.stderr
    longer = audiolm(*arguments, "--steps", 3, "--resume")
    assert longer.exit_code == 0 and (Path("c") / "checkpoints/step-00000003").is_dir()


def test_bad_recipes_and_folders_are_one_sentence(audiolm: Callable[..., Result], sounds: Path) -> None:
    Path("bad.toml").write_text("[loop]\nstep = 3\n")
    Path("parts.toml").write_text("[loop]\nbatch_size = 4\naccumulate = 2\n")
    for arguments, words in (
        (("--data", "nowhere", "-o", "c"), "nowhere is not a folder"),
        (("--data", sounds, "-o", "c", "--recipe", "bad.toml"), "did you mean 'steps'?"),
        (("--data", sounds, "-o", "c", "--recipe", "absent.toml"), "cannot read the recipe"),
        (("--data", sounds, "-o", "c", "--recipe", "parts.toml", "--batch-size", 3), "a multiple of accumulate"),
        (("--data", sounds, "-o", "c", "--tier", "Z"), "of tier Z"),
        (("--data", sounds, "-o", "c", "--recipe", "codec.toml", "--preset", "encodec"), "either --preset or --recipe"),
    ):
        result = audiolm("train", "codec", *arguments)
        assert result.exit_code == 2 and words in result.stderr and result.stderr.count("\n") == 1, result.stderr
    assert not Path("c").exists()
