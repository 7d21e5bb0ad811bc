"""Tiny models in the layouts of other programs; and AudioCraft's own fixtures where they are there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

FIXTURES = Path(os.environ.get("AUDIOLM_FIXTURES", Path(__file__).parents[3] / "shared" / "fixtures")) / "audiocraft"


class Fixture(NamedTuple):
    """cache: the Hub's cache folder; snapshot: the two files in it; expected: arrays; meta: what they mean."""

    cache: Path
    snapshot: Path
    expected: dict[str, Any]
    meta: dict[str, Any]


def fixture_of(kind: str) -> Fixture:
    import numpy as np
    import torch

    folder = FIXTURES / kind
    if not folder.is_dir():
        pytest.skip(f"no fixtures in {folder}; set AUDIOLM_FIXTURES")
    [snapshot] = folder.glob("models--facebook--*/snapshots/*")
    arrays = {name: torch.from_numpy(array) for name, array in np.load(folder / "expected.npz").items()}
    return Fixture(folder, snapshot, arrays, json.loads((folder / "meta.json").read_text()))


@pytest.fixture(params=["audiogen", "musicgen"])
def fixture(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Fixture:
    found = fixture_of(request.param)
    monkeypatch.setenv("HF_HUB_CACHE", str(found.cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return found


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Path]:
    """A copy of AudioGen's snapshot with its packages changed: edited(lm=function, codec=function)."""
    import torch

    def edit(lm: Callable[[dict], None] | None = None, codec: Callable[[dict], None] | None = None) -> Path:
        for name, change in (("state_dict.bin", lm), ("compression_state_dict.bin", codec)):
            package = torch.load(fixture_of("audiogen").snapshot / name, weights_only=True)
            if change is not None:
                change(package)
            torch.save(package, tmp_path / name)
        return tmp_path

    return edit


@pytest.fixture(scope="session")
def tiny_musicgen() -> Callable[..., Any]:
    """transformers' MusicGen, or MusicGen Melody, of random weights: tiny_musicgen(channels=2, dim=24, melody=True)."""
    transformers = pytest.importorskip("transformers")
    import torch

    def build(
        channels: int = 1, dim: int = 32, layers: int = 2, melody: bool = False, text_dim: int = 16, seed: int = 0
    ) -> Any:
        codebooks = 4 * channels
        text = transformers.T5Config(
            vocab_size=14, d_model=text_dim, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0
        )
        codec = transformers.EncodecConfig(
            target_bandwidths=[1.6],  # four bits at 100 frames a second: four codebooks
            sampling_rate=600,
            audio_channels=1,
            hidden_size=6,
            num_filters=4,
            upsampling_ratios=[3, 2],
            num_lstm_layers=1,
            codebook_size=16,
            use_causal_conv=False,
            use_conv_shortcut=False,
        )
        family = "MusicgenMelody" if melody else "Musicgen"
        decoder = getattr(transformers, f"{family}DecoderConfig")(
            vocab_size=16,
            num_hidden_layers=layers,
            ffn_dim=3 * dim,
            num_attention_heads=4,
            hidden_size=dim,
            num_codebooks=codebooks,
            audio_channels=channels,
            pad_token_id=16,
            bos_token_id=16,
            dropout=0.0,
            initializer_factor=0.3,
        )
        more = {"num_chroma": 12, "chroma_length": 7} if melody else {}
        config = getattr(transformers, f"{family}Config")(
            text_encoder=text.to_dict(), audio_encoder=codec.to_dict(), decoder=decoder.to_dict(), **more
        )
        torch.manual_seed(seed)
        model = getattr(transformers, f"{family}ForConditionalGeneration")(config).eval()
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                if name.startswith("decoder") or "proj" in name:
                    tensor.normal_(std=0.3)
            for layer in model.audio_encoder.quantizer.layers:
                layer.codebook.embed.normal_()
        return model

    return build


@pytest.fixture
def saved(tmp_path: Path, tiny_model: Path) -> Callable[..., Path]:
    """save_pretrained, with a tokenizer beside it: saved(model, shard="20KB")."""
    import shutil

    def save(model: Any, shard: str = "1GB", tokenizer: bool = True) -> Path:
        folder = tmp_path / "saved"
        model.save_pretrained(folder, max_shard_size=shard)
        if tokenizer:
            shutil.copyfile(tiny_model / "text" / "tokenizer.json", folder / "tokenizer.json")
        return folder

    return save
