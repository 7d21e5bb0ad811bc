"""The original EnCodec files: the digest in their name, and the package's own numbers where it is installed."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from audiogen_cli.errors import CheckpointError
from audiogen_cli.hub import encodec
from audiogen_cli.hub.convert import convert
from audiogen_cli.models.encodec import ENCODEC_24KHZ, ENCODEC_48KHZ, EncodecConfig
from audiogen_cli.models.entropy import EntropyLM, EntropyLMConfig, shifted

SMALL: dict[str, Any] = {"dimension": 6, "num_filters": 4, "ratios": (3, 2), "num_codebooks": 3, "codebook_size": 16}
CONFIGS = {
    "encodec_24khz": dataclasses.replace(ENCODEC_24KHZ, sample_rate=600, **SMALL),
    "encodec_48khz": dataclasses.replace(ENCODEC_48KHZ, sample_rate=600, **SMALL),
}


def theirs(config: EncodecConfig, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package's network, of random weights. It imports torchaudio, which it does not need for this."""
    monkeypatch.setitem(sys.modules, "torchaudio", types.ModuleType("torchaudio"))
    package = pytest.importorskip("encodec", reason="pip install --no-deps encodec einops")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "channels": config.channels,
        "dimension": config.dimension,
        "n_filters": config.num_filters,
        "ratios": list(config.ratios),
        "norm": config.norm,
        "causal": config.causal,
    }
    encoder = package.modules.SEANetEncoder(**sizes)
    decoder = package.modules.SEANetDecoder(**sizes)
    quantizer = package.quantization.ResidualVectorQuantizer(dimension=6, n_q=3, bins=16)
    for layer in quantizer.vq.layers:
        layer._codebook.embed.normal_(std=0.1)
        layer._codebook.inited.fill_(1)
    model = torch.nn.ModuleDict({"encoder": encoder, "decoder": decoder, "quantizer": quantizer})
    return model.eval()


def named(folder: Path, name: str, state: dict[str, torch.Tensor]) -> Path:
    """The file under the name that its bytes have."""
    torch.save(state, folder / "x")
    digest = hashlib.sha256((folder / "x").read_bytes()).hexdigest()[:8]
    return (folder / "x").rename(folder / f"{name}-{digest}.th")


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_codes_and_sound_are_the_packages(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = CONFIGS[name]
    model = theirs(config, monkeypatch)
    codec = encodec.load_codec(named(tmp_path, name, model.state_dict()), config)
    waveform = torch.randn(1, config.channels, 590, generator=torch.Generator().manual_seed(0)) * 0.3
    found = codec.encode_scaled(waveform)
    latent = model["encoder"](waveform / found.scale)
    codes = model["quantizer"].vq.encode(latent).transpose(0, 1)
    assert torch.equal(found.codes, codes)
    sound = model["decoder"](model["quantizer"].vq.decode(codes.transpose(0, 1))) * found.scale
    torch.testing.assert_close(codec.decode_scaled(found), sound, atol=1e-4, rtol=0)


def test_a_file_must_be_what_its_name_says(tmp_path: Path) -> None:
    path = named(tmp_path, "encodec_24khz", {"x": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="unexpected tensor 'x'"):
        encodec.load_codec(path)
    path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(CheckpointError, match="its sha256 begins with"):
        encodec.load_codec(path)
    for other in ("weights.th", "encodec_96khz-12345678.th"):
        with pytest.raises(CheckpointError, match="not named as the original files"):
            encodec.load_codec(path.rename(tmp_path / other))
        path = tmp_path / other


def test_the_wrong_kind_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not named"):
        encodec.load_codec(tmp_path / "encodec_lm_24khz-1608e3c0.th")
    with pytest.raises(CheckpointError, match="not named"):
        encodec.load_entropy_lm(tmp_path / "encodec_24khz-d7cc33bc.th")
    with pytest.raises(CheckpointError, match="cannot read"):
        encodec.load_entropy_lm(tmp_path / "encodec_lm_24khz-1608e3c0.th")
    with pytest.raises(CheckpointError, match="cannot read"):
        encodec.load_codec(tmp_path / "encodec_24khz-d7cc33bc.th")


def test_a_codec_alone_becomes_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audiogen_cli.hub import checkpoint, foreign
    from audiogen_cli.models.encodec import Encodec

    monkeypatch.setitem(encodec.PRESETS, "encodec_24khz", CONFIGS["encodec_24khz"])
    inverse = {"quantizer.stages.": "quantizer.vq.layers."}
    state = {}
    for name, tensor in Encodec(CONFIGS["encodec_24khz"]).state_dict().items():
        for ours, other in inverse.items():
            name = name.replace(ours, other)
        if name.startswith("quantizer"):
            name = ".".join([*name.split(".")[:4], "_codebook", name.split(".")[4]])
        else:
            side, rest = name.split(".", 1)
            kind = "convtr" if side == "decoder" and rest.split(".")[0] in ("3", "6") else "conv"
            name = f"{side}.model.{rest}".replace(".conv.", f".{kind}.{kind}.")
        name = name.replace("parametrizations.weight.original0", "weight_g")
        state[name.replace("parametrizations.weight.original1", "weight_v")] = tensor
    path = named(tmp_path, "encodec_24khz", state)
    codec = foreign.load_codec(path)
    assert codec is not None
    convert(str(path), tmp_path / "codec")
    again = checkpoint.load(tmp_path / "codec", expect=("encodec",))
    assert torch.equal(again.codebooks(), codec.codebooks())


def their_lm(config: EntropyLMConfig, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package's entropy model, of random weights."""
    monkeypatch.setitem(sys.modules, "torchaudio", types.ModuleType("torchaudio"))
    package = pytest.importorskip("encodec.model", reason="pip install --no-deps encodec einops")
    torch.manual_seed(0)
    lm = package.LMModel(config.num_codebooks, config.codebook_size, num_layers=5, past_context=config.past_context)
    return lm.eval()


@torch.no_grad()
@pytest.mark.parametrize("name", encodec.LM_PRESETS)
def test_the_entropy_models_load_and_give_the_packages_probabilities(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = encodec.LM_PRESETS[name]
    other = their_lm(config, monkeypatch)
    path = named(tmp_path, name, other.state_dict())
    lm = encodec.load_entropy_lm(path)
    codes = torch.randint(0, 1024, (1, 4, 12), generator=torch.Generator().manual_seed(0))
    expected, _, _ = other(1 + shifted(codes))
    torch.testing.assert_close(lm.probabilities(codes), expected.permute(0, 2, 3, 1), atol=1e-6, rtol=0)
    first, _, _ = other(torch.zeros(1, 4, 1, dtype=torch.int64))
    assert torch.equal(lm.step(shifted(codes)[..., 0])[0], first[..., 0].transpose(1, 2))


def test_an_entropy_model_alone_becomes_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audiogen_cli.hub import checkpoint

    config = EntropyLMConfig(2, 16, 8, 1, 2, past_context=3)
    monkeypatch.setitem(encodec.LM_PRESETS, "encodec_lm_24khz", config)
    lm = EntropyLM(config)
    state = {}
    for ours, tensor in lm.state_dict().items():
        name = ours.replace("heads.", "linears.")
        state[name if name.startswith(("linears", "emb")) else f"transformer.{name}"] = tensor
    path = named(tmp_path, "encodec_lm_24khz", state)
    convert(str(path), tmp_path / "entropy")
    again = checkpoint.load(tmp_path / "entropy", expect=("entropy-lm",))
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in lm.state_dict().items())
    with pytest.raises(CheckpointError, match="spectral"):
        checkpoint.load(tmp_path / "entropy", expect=checkpoint.CODECS)


def test_the_entropy_model_beside_a_codec_is_found_by_its_name(tmp_path: Path) -> None:
    codec = tmp_path / "encodec_24khz-d7cc33bc.th"
    for name in ("encodec_lm_48khz-7add9fc3.th", "encodec_lm_24khz.th", codec.name):
        (tmp_path / name).touch()
    assert encodec.entropy_lm_beside(codec) is None
    assert encodec.entropy_lm_beside(tmp_path / "codec") is None
    there = tmp_path / "encodec_lm_24khz-1608e3c0.th"
    there.touch()
    assert encodec.entropy_lm_beside(codec) == there
    (tmp_path / "encodec_lm_24khz-00000000.th").touch()
    with pytest.raises(CheckpointError, match="several"):
        encodec.entropy_lm_beside(codec)
