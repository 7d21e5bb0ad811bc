"""An entropy model and the arithmetic coder together; tests/pipelines/test_compress.py has them with the package."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch

from audiogen_cli.errors import InputError
from audiogen_cli.models.entropy import EntropyLM, EntropyLMConfig
from audiogen_cli.pipelines.entropy import EntropyModel, EntropyReader, EntropyWriter, as_published, exact

CODES = np.random.default_rng(0).integers(0, 16, (3, 150))


def lm() -> EntropyLM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return EntropyLM(
            EntropyLMConfig(num_codebooks=4, codebook_size=16, dim=16, num_layers=2, num_heads=2, past_context=9)
        ).eval()


def written(model: EntropyModel, block: int) -> bytes:
    file = io.BytesIO()
    writer = EntropyWriter(file, model)
    for start in range(0, CODES.shape[1], block):
        writer.write(CODES[:, start : start + block])
    writer.finish()
    return file.getvalue()


@pytest.mark.parametrize("kind", [exact, as_published])
def test_codes_come_back_whatever_the_blocks(kind: Callable[[EntropyLM], EntropyModel]) -> None:
    data = written(kind(lm()), 150)
    assert written(kind(lm()), 1) == written(kind(lm()), 67) == data
    file = io.BytesIO(data + b"next")
    reader = EntropyReader(file, kind(lm()), codebooks=3)
    assert np.array_equal(np.concatenate([reader.read(n) for n in (1, 100, 49)], axis=1), CODES)
    assert file.read() == b"next"


def test_a_stream_that_ends_early_is_refused() -> None:
    with pytest.raises(InputError, match="ends too early"):
        EntropyReader(io.BytesIO(written(exact(lm()), 150)[:-2]), exact(lm()), 3).read(150)


def test_what_the_model_expects_costs_less() -> None:
    model = lm()
    before = len(written(exact(model), 150))
    for k, head in enumerate(model.heads[:3]):
        head.bias.data = torch.from_numpy(np.bincount(CODES[k], minlength=16) / 150 + 0.001).log().float()
        head.weight.data.zero_()
    assert len(written(exact(model), 150)) < before
