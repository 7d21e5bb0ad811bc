"""The table of published models: its figures are those that the published shapes give, computed here."""

from __future__ import annotations

import functools

import pytest
from torch import nn

from audiogen_cli.conditioners.t5 import T5Config, T5Encoder
from audiogen_cli.hub.known import KNOWN, of_repo
from audiogen_cli.models.encodec import Encodec, EncodecConfig
from audiogen_cli.models.lm import LM, LMConfig
from audiogen_cli.ops.skeleton import skeleton

# Width and layers, of AudioCraft's model definitions and transformers' conversion script; a head is 64 wide.
SIZES = {
    "small": (1024, 24),
    "medium": (1536, 48),
    "large": (2048, 48),
    "melody": (1536, 48),
    "melody-large": (2048, 48),
}
# Counted by others in the published files.
EXACT = {
    "musicgen-small": 420_371_456,
    "musicgen-medium": 1_838_737_920,
    "musicgen-large": 3_256_956_928,
    "musicgen-melody": 1_385_625_600,
    "audiogen-medium": 1_839_131_136,
}
BASE = T5Config(vocab_size=32128, d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12)
LARGE = T5Config(vocab_size=32128, d_model=1024, d_kv=64, d_ff=4096, num_layers=24, num_heads=16)


def values(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.state_dict().values())


@functools.cache
def text_values(config: T5Config) -> int:
    """A whole T5, as its repository holds it. The decoder has the encoder's tensors, and in every layer the four
    matrices and the norm of its attention to the encoder besides; both share one table of words."""
    encoder, inner = values(skeleton(lambda: T5Encoder(config))), config.num_heads * config.d_kv
    words = config.vocab_size * config.d_model
    return encoder + (encoder - words) + config.num_layers * (4 * inner * config.d_model + config.d_model)


@functools.cache
def codec_values(ratios: tuple[int, ...]) -> int:
    """What a codebook needs for training is in the published files as well."""
    config = EncodecConfig(
        ratios=ratios, num_codebooks=4, codebook_size=2048, causal=False, true_skip=True, num_filters=64, dimension=128
    )
    return values(skeleton(lambda: Encodec(config)))


@pytest.mark.parametrize("name", KNOWN)
def test_parameters_and_download_are_those_of_the_published_shape(name: str) -> None:
    """The language model in 16 bits, codec and text encoder in 32."""
    known, sound = KNOWN[name], name.startswith("audiogen")
    dim, layers = SIZES[name.removeprefix("audiogen-").removeprefix("musicgen-").removeprefix("stereo-")]
    melody = {"conditioning": "prefix", "padding": "audiocraft", "melody_dim": 12, "melody_frames": 235}
    text = LARGE if sound else BASE
    config = LMConfig(
        num_codebooks=4 * known.channels,
        codebook_size=2048,
        dim=dim,
        num_layers=layers,
        num_heads=dim // 64,
        condition_dim=text.d_model,
        **(melody if "melody" in name else {}),
    )
    count = values(skeleton(lambda: LM(config)))
    assert known.parameters == f"{count / 1e9:.1f} B"
    assert count == EXACT.get(name, count)
    codec = codec_values((8, 5, 4, 2) if sound else (8, 5, 4, 4))
    assert known.download_gb == round((2 * count + 4 * codec + 4 * text_values(text)) / 1e9, 1)


def test_the_parts_are_as_large_as_those_published() -> None:
    """Megabytes of the codec files, and transformers' own count of a T5."""
    transformers = pytest.importorskip("transformers")
    assert 4e-6 * codec_values((8, 5, 4, 2)) == pytest.approx(235.7, abs=0.1)
    assert 4e-6 * codec_values((8, 5, 4, 4)) == pytest.approx(236.0, abs=0.1)
    small = T5Config(vocab_size=100, d_model=16, d_kv=4, d_ff=24, num_layers=3, num_heads=4)
    theirs = transformers.T5ForConditionalGeneration(transformers.T5Config(**vars(small)))
    assert text_values(small) == sum(parameter.numel() for parameter in theirs.parameters())


def test_a_repository_knows_its_short_name() -> None:
    known = of_repo("facebook/musicgen-stereo-large")
    assert known is not None and known.name == "musicgen-stereo-large" and known.channels == 2
    assert of_repo("somebody/else") is None
    assert all(known.name == name and not known.gated for name, known in KNOWN.items())
