import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from audiogen_cli.errors import CheckpointError, ConfigError
from audiogen_cli.hub import checkpoint
from audiogen_cli.models.flow import Flow, FlowConfig
from audiogen_cli.models.lm import LM, LMConfig
from audiogen_cli.models.spectral import SpectralCodec, SpectralConfig

TINY = SpectralConfig(
    encoder_dim=8, encoder_layers=1, decoder_dim=8, decoder_layers=1, subframe_dim=8, subframe_layers=1, num_codebooks=2
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    checkpoint.save(tmp_path / "codec", SpectralCodec(TINY), {"steps": 3})
    return tmp_path / "codec"


def edit(folder: Path, **changes: object) -> None:
    header = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(header | changes))


def test_what_is_saved_is_loaded(folder: Path) -> None:
    torch.manual_seed(0)
    original, loaded = SpectralCodec(TINY).eval(), checkpoint.load(folder)
    waveform = torch.randn(1, 1, 999)
    assert loaded.config == TINY and not loaded.training
    assert torch.equal(original.decoder(original.encoder(waveform)), loaded.decoder(loaded.encoder(waveform)))
    assert checkpoint.read_header(folder)["source"] == {"steps": 3}


def test_sixteen_bits_halve_the_file_and_load_as_float32(folder: Path, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "half", checkpoint.load(folder), dtype=torch.float16)
    sizes = [(path / "model.safetensors").stat().st_size for path in (folder, tmp_path / "half")]
    assert sizes[1] < 0.6 * sizes[0]
    assert {tensor.dtype for tensor in checkpoint.load(tmp_path / "half").state_dict().values()} == {torch.float32}


def test_the_fingerprint_survives_storing_in_sixteen_bits(folder: Path, tmp_path: Path) -> None:
    codec = checkpoint.load(folder)
    codec(torch.randn(1, 1, 16_000).requires_grad_())
    checkpoint.save(tmp_path / "half", codec, dtype=torch.float16)
    assert checkpoint.load(tmp_path / "half").fingerprint() == codec.fingerprint()


def test_another_kind_than_expected_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="kind 'spectral', but lm is needed"):
        checkpoint.load(folder, expect=("lm",))


def test_an_unknown_kind_is_refused_and_never_imported(folder: Path) -> None:
    edit(folder, kind="os.system")
    with pytest.raises(CheckpointError, match=r"unknown kind 'os\.system'"):
        checkpoint.load(folder)


def test_an_unknown_setting_is_named(folder: Path) -> None:
    header = json.loads((folder / "config.json").read_text())
    edit(folder, config=header["config"] | {"encoder_dims": 8})
    with pytest.raises(ConfigError, match="did you mean 'encoder_dim'"):
        checkpoint.load(folder)


def test_a_wrong_shape_is_named(folder: Path) -> None:
    header = json.loads((folder / "config.json").read_text())
    edit(folder, config=header["config"] | {"decoder_dim": 16})
    with pytest.raises(CheckpointError, match=r"decoder.*has shape"):
        checkpoint.load(folder)


def test_missing_and_unexpected_tensors_are_named(folder: Path) -> None:
    header = json.loads((folder / "config.json").read_text())
    edit(folder, config=header["config"] | {"num_codebooks": 3})
    with pytest.raises(CheckpointError, match=r"no tensor 'quantizer.stages.2"):
        checkpoint.load(folder)
    edit(folder, config=header["config"] | {"num_codebooks": 1})
    with pytest.raises(CheckpointError, match=r"unexpected tensor 'quantizer.stages.1"):
        checkpoint.load(folder)


@pytest.mark.parametrize("damage", ["empty", "cut", "missing"])
def test_damaged_weights_are_one_sentence(folder: Path, damage: str) -> None:
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    if damage != "missing":
        weights.write_bytes(b"" if damage == "empty" else content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="cannot read"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    "header", ["{", "[]", '{"format": 1}', '{"format": 9, "kind": "lm", "config": {}, "source": {}}']
)
def test_a_config_that_is_not_ours_is_refused(folder: Path, header: str) -> None:
    (folder / "config.json").write_text(header)
    with pytest.raises(CheckpointError):
        checkpoint.load(folder)


def test_a_codec_is_stored_without_what_only_training_needs_and_learns_on_after_loading(folder: Path) -> None:
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert not [name for name in file.keys() if "embed_avg" in name or "cluster_size" in name]  # noqa: SIM118
    codec = checkpoint.load(folder).train()
    before = codec.fingerprint()  # type: ignore[operator]
    codec(torch.randn(2, 1, 16_000))
    assert codec.fingerprint() != before and codec.codebooks().isfinite().all()  # type: ignore[operator]


def test_buffers_keep_sixteen_bits_where_weights_take_eight(tmp_path: Path) -> None:
    torch.manual_seed(0)
    flow = Flow(FlowConfig(8, 16, 1, 2, condition_dim=16))
    flow.fit(torch.randn(100, 8) * 2.0 ** torch.arange(8))
    checkpoint.save(tmp_path, flow, dtype=torch.int8)
    again = checkpoint.load(tmp_path)
    assert isinstance(again, Flow)
    torch.testing.assert_close(again.whiten, flow.whiten, rtol=2**-11, atol=1e-7)
    assert (again.input_proj.weight - flow.input_proj.weight).abs().max() > 1e-4


def test_eight_bits_quarter_the_file_and_load_nearly_as_they_were(tmp_path: Path) -> None:
    torch.manual_seed(0)
    lm = LM(LMConfig(2, 64, 64, 2, 2, condition_dim=16, positions="rope")).eval()
    checkpoint.save(tmp_path / "float", lm)
    checkpoint.save(tmp_path / "int8", lm, dtype=torch.int8)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("float", "int8")]
    assert sizes[1] < 0.3 * sizes[0]
    again = checkpoint.load(tmp_path / "int8")
    assert {tensor.dtype for tensor in again.state_dict().values()} == {torch.float32}
    steps = torch.randint(64, (1, 2, 9))
    assert (again(steps) - lm(steps)).std() < 0.03 * lm(steps).std()
    checkpoint.save(tmp_path / "twice", again, dtype=torch.int8)
    for name, tensor in checkpoint.load(tmp_path / "twice").state_dict().items():
        torch.testing.assert_close(tensor, again.state_dict()[name], rtol=1e-5, atol=1e-7)
