"""The programs that people have, and the defects that they met."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from audiogen_cli.errors import CheckpointError, ConfigError, InputError
from audiogen_cli.hub import checkpoint
from audiogen_cli.hub.soundstream import SoundStream

TINY: dict[str, Any] = {
    "channels": 4,
    "strides": (2, 5),
    "channel_mults": (2, 4),
    "codebook_dim": 8,
    "codebook_size": 16,
    "rq_num_quantizers": 3,
    "attn_window_size": 6,
    "attn_dim_head": 4,
    "attn_heads": 2,
}


def soundstream(**options: Any) -> SoundStream:
    torch.manual_seed(0)
    model = SoundStream(**(TINY | options))
    model(torch.randn(2, model.channels, 1_000))  # k-means start
    return model.eval()


@pytest.mark.parametrize("groups", [1, 2])
def test_decoding_the_tokens_is_the_reconstruction(groups: int) -> None:
    model, audio = soundstream(rq_groups=groups), torch.randn(1, 512 * 10)
    codes = model.tokenize(audio)
    assert codes.shape == (groups, 1, 512, 3)
    decoded = model.decode_from_codebook_indices(codes)
    torch.testing.assert_close(decoded, model(audio, return_recons_only=True), atol=1e-5, rtol=1e-4)


def test_the_readmes_quantizers_are_accepted_with_the_readmes_arguments() -> None:
    model = SoundStream(
        **TINY | {"codebook_size": 4096, "rq_groups": 2, "use_lookup_free_quantizer": True, "attn_depth": 2}
    )
    assert model.tokenize(torch.randn(100)).max() >= 16 and model.codebook_size == 4096


@pytest.mark.parametrize(
    ("channels", "shape", "expected"),
    [(1, (99,), (1, 99)), (1, (3, 99), (3, 1, 99)), (1, (3, 1, 99), (3, 1, 99)), (2, (2, 99), (2, 99))],
)
def test_the_reconstruction_has_the_shape_of_the_input(
    channels: int, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    model = soundstream(input_channels=channels)
    assert model(torch.randn(shape), return_recons_only=True).shape == expected


def test_a_stereo_file_is_one_sound_not_two() -> None:
    assert soundstream(input_channels=2).tokenize(torch.randn(2, 99)).shape == (1, 1, 10, 3)


@pytest.mark.parametrize("samples", [100, 101, 109])
def test_what_is_curtailed_is_the_beginning_of_what_fills_no_frame(samples: int) -> None:
    model, audio = soundstream(), torch.randn(1, samples)
    codes = model.tokenize(audio, curtail_from_left=True)
    assert codes.shape[2] == 10 and torch.equal(codes, model.tokenize(audio[:, samples - 100 :]))


def test_a_recording_at_another_rate_is_resampled() -> None:
    model = soundstream()
    assert model.tokenize(torch.randn(1, 4_800), input_sample_hz=48_000).shape[2] == 160


def test_flat_codes_fewer_levels_and_dropped_ones_decode_too() -> None:
    model = soundstream(rq_groups=2)
    codes = model.tokenize(torch.randn(3, 99))
    decoded = model.decode_from_codebook_indices(codes)
    flat = codes.permute(1, 2, 0, 3).flatten(2)  # [B, T, groups * levels]
    assert torch.equal(model.decode_from_codebook_indices(flat), decoded)
    few = model.decode_from_codebook_indices(codes[..., :2])
    dropped = codes.clone()
    dropped[..., 2] = -1
    torch.testing.assert_close(model.decode_from_codebook_indices(dropped), few)


def test_tokens_do_not_depend_on_the_mode_and_teach_nothing() -> None:
    model, audio = soundstream(), torch.randn(1, 200)
    tokens, before = model.tokenize(audio), model.codebooks().clone()
    assert torch.equal(model.train().tokenize(audio), tokens) and model.training
    assert torch.equal(model.codebooks(), before)


def test_the_encoded_latent_is_what_its_codes_stand_for() -> None:
    model = soundstream(rq_groups=2)
    latent, codes, commitment = model(torch.randn(2, 99), return_encoded=True)
    assert latent.shape == (2, 10, 8) and codes.shape == (2, 10, 6) and commitment.ndim == 0
    decoded = model.decoder(latent.transpose(1, 2))
    torch.testing.assert_close(decoded, model.decode_from_codebook_indices(codes), atol=1e-5, rtol=1e-4)


def test_saved_and_loaded_it_is_the_same_codec(tmp_path: Path) -> None:
    model, audio = soundstream(rq_groups=2, squeeze_excite=True), torch.randn(1, 200)
    model.save(tmp_path / "ours")
    again = SoundStream.init_and_load_from(tmp_path / "ours")
    assert again.configs == model.configs and not again.training
    assert torch.equal(again.tokenize(audio), model.tokenize(audio))
    other = SoundStream(**model.configs).load(tmp_path / "ours").eval()
    assert torch.equal(other.tokenize(audio), model.tokenize(audio))
    assert type(checkpoint.load(tmp_path / "ours")) is SoundStream


@pytest.mark.parametrize("options", [{"use_lookup_free_quantizer": True}, {}])
def test_every_tensor_is_real_after_loading(tmp_path: Path, options: dict[str, Any]) -> None:
    soundstream(attn_dynamic_pos_bias=True, use_gate_loop_layers=True, **options).save(tmp_path / "ours")
    again = SoundStream.init_and_load_from(tmp_path / "ours")
    assert not [name for name, tensor in (*again.named_parameters(), *again.named_buffers()) if tensor.is_meta]


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    soundstream().save(tmp_path / "ours")
    names = {path.name for path in (tmp_path / "ours").iterdir()}
    assert names == {"config.json", "model.safetensors"}
    assert json.loads((tmp_path / "ours/config.json").read_text())["kind"] == "soundstream"
    torch.save({"config": b"pickled"}, tmp_path / "theirs.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint folder"):
        SoundStream.init_and_load_from(tmp_path / "theirs.pt")


def test_the_model_holds_no_discriminator() -> None:
    model = soundstream()
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"encoder", "decoder"}
    assert len(list(model.non_discr_parameters())) == len(list(model.parameters()))


def test_wrong_arguments_and_codes_are_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="did you mean 'codebook_size'"):
        SoundStream(codebook_sizes=1024)
    with pytest.raises(ConfigError, match="give codebook_size"):
        SoundStream()
    with pytest.raises(InputError, match="batch, frames"):
        soundstream(rq_groups=2).decode_from_codebook_indices(torch.zeros(1, 5, 3, dtype=torch.int64))


def test_nothing_is_left_of_what_fills_no_frame() -> None:
    """[21: without its last 0 samples a sound is cut to all of it]"""
    with pytest.raises(InputError, match="1 or more samples"):
        soundstream().tokenize(torch.randn(1, 9), curtail_from_left=True)
