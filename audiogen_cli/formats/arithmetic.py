"""The arithmetic coder of EnCodec's entropy-coded payload (2210.13438, section 3.3), bit for bit.

    probabilities [n, V] --quantized_cdf--> cdfs [n, V]
    symbols [n], cdfs --ArithmeticEncoder--> bits --ArithmeticDecoder, cdfs--> symbols

A cdf splits 2^24 numbers into V ranges, each at least two wide. The coder holds an interval [low, high] of integers and
narrows it to a symbol's share; leading bits on which both ends agree are written and forgotten, and an interval that
became narrower than 2^24 is widened by whole bits. The bounds are products of an integer and a double, rounded inwards:
that arithmetic is part of the format.
"""

from __future__ import annotations

import math
from typing import IO

import numpy as np

from audiogen_cli.errors import InputError

RANGE_BITS = 24
MIN_RANGE = 2  # of 2^24: no symbol is so unlikely that it cannot be coded
_RANGE = 1 << RANGE_BITS
_MAX_BIT = 61  # the published decoder refuses an interval of more bits
_ROUND_OFF = np.float32(1e-8)
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_DAMAGED = "the entropy-coded stream is damaged, or was coded with other probabilities; fetch or compress it again."


def quantized_cdf(probabilities: np.ndarray) -> np.ndarray:
    """float32 [..., V], each row a distribution -> int64 [..., V], the upper ends of the symbols' ranges."""
    rounded = np.floor(probabilities.astype(np.float32, copy=False) / _ROUND_OFF) * _ROUND_OFF
    spread = np.float32(_RANGE - MIN_RANGE * rounded.shape[-1])
    return np.cumsum(np.floor(spread * rounded).astype(np.int64) + MIN_RANGE, axis=-1)


def min_bits(codebook_size: int) -> float:
    """The fewest bits that a symbol can cost, which bounds how many symbols a stream can hold."""
    return -math.log2(1.0 - MIN_RANGE * (codebook_size - 1) / _RANGE)


class ArithmeticEncoder:
    """Writes to `file`; `finish` completes the last byte, after which another stream may follow."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._low = self._high = 0
        self._width = 0  # bits that low and high have
        self._bits = ""  # written, but not yet a byte

    def encode(self, symbols: np.ndarray, cdfs: np.ndarray) -> None:
        """symbols [n] in [0, V), cdfs int64 [n, V]."""
        rows = np.arange(len(symbols))
        uppers = cdfs[rows, symbols]
        lowers = np.where(symbols > 0, cdfs[rows, symbols - 1], 0)
        low, high, width, out = self._low, self._high, self._width, [self._bits]
        for lower, upper in zip(lowers.tolist(), uppers.tolist(), strict=True):
            missing = RANGE_BITS + 1 - (high - low + 1).bit_length()
            if missing > 0:
                low, high, width = low << missing, ((high + 1) << missing) - 1, width + missing
            step = (high - low + 1) / _RANGE
            low, high = low + math.ceil(lower * step), low + math.floor((upper - 1) * step)
            rest = (low ^ high).bit_length()
            if rest < width:
                out.append(f"{low >> rest:0{width - rest}b}")
                low, high, width = low & (1 << rest) - 1, high & (1 << rest) - 1, rest
            if width > _MAX_BIT + 1:
                raise InputError("these codes cannot be entropy-coded; compress with --no-lm.")
        self._low, self._high, self._width = low, high, width
        self._write("".join(out))

    def finish(self) -> None:
        if self._width:
            self._bits += f"{self._low:0{self._width}b}"
        self._write(self._bits + "0" * (-len(self._bits) % 8))
        self._low = self._high = self._width = 0

    def _write(self, bits: str) -> None:
        """Writes whole bytes, the first bit lowest, and keeps the rest."""
        whole = len(bits) - len(bits) % 8
        self._bits = bits[whole:]
        if whole:
            self._file.write(int(bits[:whole], 2).to_bytes(whole // 8, "big").translate(_REVERSED))


class ArithmeticDecoder:
    """Reads from `file` exactly the bytes that the encoder wrote, when asked for exactly its symbols."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._low = self._high = self._current = 0
        self._bits, self._num_bits = 0, 0  # read, but not yet used

    def decode(self, cdfs: np.ndarray) -> np.ndarray:
        """cdfs int64 [n, V] -> symbols int64 [n]. Raises InputError when the stream ends or cannot be theirs."""
        return np.array([self._symbol(cdf) for cdf in cdfs], dtype=np.int64)

    def _symbol(self, cdf: np.ndarray) -> int:
        missing = RANGE_BITS + 1 - (self._high - self._low + 1).bit_length()
        if missing > 0:
            self._low, self._high = self._low << missing, ((self._high + 1) << missing) - 1
            self._current = self._current << missing | self._read(missing)
        symbol, low, high = self._find(cdf)
        rest = (low ^ high).bit_length()
        if rest > _MAX_BIT + 1:
            raise InputError(_DAMAGED)
        mask = (1 << rest) - 1
        self._low, self._high, self._current = low & mask, high & mask, self._current & mask
        return symbol

    def _find(self, cdf: np.ndarray) -> tuple[int, int, int]:
        """The symbol whose share of the interval holds the current number, and the ends of that share."""
        step = (self._high - self._low + 1) / _RANGE
        place = self._current - self._low
        symbol = int(cdf.searchsorted(int(place / step), side="right"))
        for candidate in (symbol, symbol - 1, symbol + 1):  # a neighbour where rounding moved the border
            if 0 <= candidate < len(cdf):
                low = math.ceil(int(cdf[candidate - 1]) * step) if candidate else 0
                high = math.floor((int(cdf[candidate]) - 1) * step)
                if low <= place <= high:
                    return candidate, self._low + low, self._low + high
        raise InputError(_DAMAGED)

    def _read(self, count: int) -> int:
        while self._num_bits < count:
            byte = self._file.read(1)
            if not byte:
                raise InputError("the stream ends too early; it was cut off, so fetch or compress it again.")
            self._bits = self._bits << 8 | _REVERSED[byte[0]]
            self._num_bits += 8
        self._num_bits -= count
        value = self._bits >> self._num_bits
        self._bits &= (1 << self._num_bits) - 1
        return value
