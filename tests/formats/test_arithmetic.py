"""The arithmetic coder: its golden bytes, and the `encodec` package's own coder beside it where that is installed."""

from __future__ import annotations

import contextlib
import io
import sys
import types

import numpy as np
import pytest

from audiogen_cli.errors import InputError
from audiogen_cli.formats.arithmetic import ArithmeticDecoder, ArithmeticEncoder, min_bits, quantized_cdf

UNIFORM = np.full((5, 1024), 1 / 1024, dtype=np.float32)
SYMBOLS = np.array([0, 1, 512, 1023, 77])


def distributions(count: int, size: int, sharpness: float, seed: int = 0) -> np.ndarray:
    logits = np.random.default_rng(seed).standard_normal((count, size)) * sharpness
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def encoded(symbols: np.ndarray, cdfs: np.ndarray, block: int = 10_000) -> bytes:
    file = io.BytesIO()
    encoder = ArithmeticEncoder(file)
    for start in range(0, len(symbols), block):
        encoder.encode(symbols[start : start + block], cdfs[start : start + block])
    encoder.finish()
    return file.getvalue()


CASES = [(1024, 1.0), (1024, 8.0), (1024, 60.0), (5, 3.0), (16, 0.1)]


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, their cdfs, and symbols both likely and unlikely."""
    size, sharpness = request.param
    probabilities = distributions(400, size, sharpness)
    random = np.random.default_rng(1)
    symbols = np.array([random.choice(size, p=row / row.sum()) for row in probabilities.astype(np.float64)])
    symbols[::7] = random.integers(0, size, len(symbols[::7]))
    return probabilities, quantized_cdf(probabilities), symbols


def test_golden_bytes() -> None:
    cdfs = quantized_cdf(UNIFORM)
    assert cdfs[0, :3].tolist() == [16383, 32766, 49149] and cdfs[0, -1] == 16776192
    assert encoded(SYMBOLS, cdfs).hex() == "000018c078ddea1901"


def test_what_was_encoded_is_decoded_and_not_a_byte_more_is_read(case: tuple[np.ndarray, ...]) -> None:
    _, cdfs, symbols = case
    file = io.BytesIO(encoded(symbols, cdfs) + b"next")
    decoder = ArithmeticDecoder(file)
    found = np.concatenate([decoder.decode(cdfs[:11]), decoder.decode(cdfs[11:])])
    assert np.array_equal(found, symbols) and file.read() == b"next"


def test_blocks_make_no_difference(case: tuple[np.ndarray, ...]) -> None:
    _, cdfs, symbols = case
    assert encoded(symbols, cdfs, block=1) == encoded(symbols, cdfs, block=33) == encoded(symbols, cdfs)


def test_the_length_is_that_of_the_entropy(case: tuple[np.ndarray, ...]) -> None:
    _, cdfs, symbols = case
    widths = np.diff(cdfs, prepend=0)[np.arange(len(symbols)), symbols]
    bits = -np.log2(widths / 2**24).sum()
    assert bits < 8 * len(encoded(symbols, cdfs)) < 1.02 * bits + 64


def test_the_packages_coder_writes_the_same_bytes(
    case: tuple[np.ndarray, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", types.ModuleType("torchaudio"))
    theirs = pytest.importorskip("encodec.quantization.ac", reason="pip install --no-deps encodec einops")
    import torch

    probabilities, cdfs, symbols = case
    rows = [theirs.build_stable_quantized_cdf(torch.from_numpy(row), 24, check=False) for row in probabilities]
    assert np.array_equal(torch.stack(rows).numpy(), cdfs)
    file = io.BytesIO()
    coder = theirs.ArithmeticCoder(file)
    for symbol, row in zip(symbols.tolist(), rows, strict=True):
        coder.push(symbol, row)
    coder.flush()
    assert file.getvalue() == encoded(symbols, cdfs)
    decoder = theirs.ArithmeticDecoder(io.BytesIO(encoded(symbols, cdfs)))
    assert [decoder.pull(row) for row in rows] == symbols.tolist()


def test_no_symbol_costs_less_than_the_least() -> None:
    certain = np.zeros((20_000, 1024), dtype=np.float32)
    certain[:, 3] = 1.0
    size = len(encoded(np.full(20_000, 3), quantized_cdf(certain)))
    assert 20_000 * min_bits(1024) <= 8 * size <= 20_000 * min_bits(1024) + 40


def test_a_stream_that_is_cut_off_or_foreign_is_refused(case: tuple[np.ndarray, ...]) -> None:
    _, cdfs, symbols = case
    data = encoded(symbols, cdfs)
    with pytest.raises(InputError, match="ends too early"):
        ArithmeticDecoder(io.BytesIO(data[:-1])).decode(cdfs)
    for seed in range(20):
        noise = np.random.default_rng(seed).bytes(len(data))
        with contextlib.suppress(InputError):
            assert len(ArithmeticDecoder(io.BytesIO(noise)).decode(cdfs)) == len(cdfs)
