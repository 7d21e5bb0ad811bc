"""The encoder against transformers' own, of random weights: the same tensors, the same numbers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import torch
import transformers

from audiogen_cli.conditioners.t5 import T5Config, T5Encoder, distance_buckets

SHAPES: list[dict[str, Any]] = [
    {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 3, "num_heads": 4},
    {"d_model": 24, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2, "feed_forward_proj": "gated-gelu"},
    {
        "d_model": 12,
        "d_kv": 3,
        "d_ff": 16,
        "num_layers": 1,
        "num_heads": 5,
        "relative_attention_num_buckets": 12,
        "relative_attention_max_distance": 20,
        "layer_norm_epsilon": 1e-3,
    },
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("length", [1, 2, 17, 256])
@torch.no_grad()
def test_it_computes_what_transformers_computes(shape: dict[str, Any], length: int) -> None:
    config = T5Config(vocab_size=32, **shape)
    torch.manual_seed(0)
    theirs = transformers.T5EncoderModel(transformers.T5Config(**asdict(config), initializer_factor=5.0)).eval()
    state = {name: tensor for name, tensor in theirs.state_dict().items() if name != "encoder.embed_tokens.weight"}
    ours = T5Encoder(config).eval()
    ours.load_state_dict(state)
    tokens = torch.randint(0, 32, (2, length))
    torch.testing.assert_close(ours(tokens), theirs(tokens).last_hidden_state, rtol=1e-5, atol=1e-5)


def test_near_keys_have_their_own_bucket_and_far_ones_share() -> None:
    buckets = distance_buckets(200, T5Config(32, 8, 4, 8, 1, 2))
    assert buckets[100, 100] == 0 and buckets[100, 93:101].tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    assert buckets[100, 101:108].tolist() == [17, 18, 19, 20, 21, 22, 23]
    assert buckets[199, 0] == buckets[199, 71] == 15 and buckets[0, 199] == buckets[0, 128] == 31
    assert (buckets[150, :150].diff() <= 0).all() and (buckets[0, 1:].diff() >= 0).all()
