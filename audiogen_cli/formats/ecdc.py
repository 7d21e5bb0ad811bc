"""EnCodec's container for codes (`.ecdc`): a JSON header, then one payload for each segment of the sound.

    "ECDC", version 0, length of the header (9 bytes, big-endian) | {"m": .., "al": .., "nc": .., "lm": ..} | payloads

A payload is packed codes (below) or an arithmetic-coded stream (formats/arithmetic.py); frames follow each other, and
within a frame its codebooks. It fills up its last byte. Where the model normalizes, its scale precedes it as a float32.
How long a payload is, nobody says: that follows from the length of the sound, the model, and nothing else.

Readers ignore keys that they do not know, so ours say in further ones what the format lacks: see Header.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from dataclasses import dataclass, replace
from typing import IO, Any, Protocol

import numpy as np

from audiogen_cli.errors import InputError

MAGIC = b"ECDC"
MAX_HEADER = 1 << 16  # bytes; the published headers have fewer than a hundred
MAX_CODEBOOKS = 1024
MAX_CHANNELS = 64
MAX_NAME = 255
MAX_LENGTH = 1 << 48  # samples
_PREFIX = struct.Struct("!4sBI")
_SCALE = struct.Struct("!f")
_CUT_OFF = "the stream ends too early; it was cut off, so fetch or compress it again."


@dataclass(frozen=True)
class Header:
    """model: the codec's name. length: samples per channel at the codec's rate. lm: whether codes are entropy-coded.

    Ours also say, and None is what a file of other programs does not: kind and fingerprint of the codec, the rate in
    Hz, channels and samples of the sound before it was fitted to the codec, and the checksum of the codes (Checksum).
    """

    model: str
    length: int
    codebooks: int
    lm: bool
    kind: str | None = None
    fingerprint: str | None = None
    source_rate: int | None = None
    source_channels: int | None = None
    source_length: int | None = None
    checksum: int | None = None


# Ours -> the key in the file, the type there, and the largest number that makes sense.
_KEYS: dict[str, tuple[str, type, int]] = {
    "model": ("m", str, 0),
    "length": ("al", int, MAX_LENGTH),
    "codebooks": ("nc", int, MAX_CODEBOOKS),
    "lm": ("lm", bool, 1),
    "kind": ("kind", str, 0),
    "fingerprint": ("fingerprint", str, 0),
    "source_rate": ("rate", int, 1_000_000),
    "source_channels": ("channels", int, MAX_CHANNELS),
    "source_length": ("length", int, MAX_LENGTH),
    "checksum": ("crc32", int, 2**32 - 1),
}
_REQUIRED = ("model", "length", "codebooks", "lm")
_MAY_BE_ZERO = ("checksum",)


def write_header(file: IO[bytes], header: Header) -> None:
    if not _is_sane(header.model, 0, 0):
        raise InputError("the model's name is too long or unprintable; rename its folder.")
    data = _json(header)
    file.write(_PREFIX.pack(MAGIC, 0, len(data)) + data)


def _json(header: Header) -> bytes:
    values = {key: getattr(header, name) for name, (key, _, _) in _KEYS.items()}
    return json.dumps({key: value for key, value in values.items() if value is not None}).encode()


def read_header(file: IO[bytes]) -> Header:
    """Raises InputError for what is no `.ecdc` file, or a damaged one."""
    prefix = file.read(_PREFIX.size)
    if not prefix:
        raise InputError("it is an empty file; give one that audiolm compress has written.")
    if prefix[:4] != MAGIC[: len(prefix)]:
        raise InputError("it is no .ecdc file; give one that audiolm compress has written.")
    if len(prefix) < _PREFIX.size:
        raise InputError(_CUT_OFF)
    _, version, size = _PREFIX.unpack(prefix)
    if version != 0:
        raise InputError(f"it has version {version} of the .ecdc format and only 0 is known here; update audiolm.")
    if size > MAX_HEADER:
        raise InputError(f"its header claims {size} bytes, and none has more than {MAX_HEADER}; fetch the file again.")
    data = file.read(size)
    if not size or len(data) < size:
        raise InputError(_CUT_OFF)
    try:
        values = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError("its header is damaged; fetch or compress it again.") from error
    return _parsed(values)


def _parsed(values: Any) -> Header:
    if not isinstance(values, dict):
        raise InputError("its header is damaged: it is no JSON object; fetch or compress it again.")
    found: dict[str, Any] = {name: values[key] for name, (key, _, _) in _KEYS.items() if values.get(key) is not None}
    for name in _REQUIRED:
        if name not in found:
            raise InputError(f"its header is damaged: it lacks '{_KEYS[name][0]}'; fetch or compress it again.")
    for name, value in found.items():
        key, kind, largest = _KEYS[name]
        smallest = 0 if name in _MAY_BE_ZERO else 1
        if type(value) is not kind or not _is_sane(value, smallest, largest):
            raise InputError(f"its header is damaged: '{key}' cannot be {_short(value)}; fetch or compress it again.")
    return Header(**found)


def _is_sane(value: Any, smallest: int, largest: int) -> bool:
    """A text is a name that may be shown to a person; a number is within its bounds."""
    if isinstance(value, str):
        return value.isprintable() and 0 < len(value) <= MAX_NAME
    return isinstance(value, bool) or smallest <= value <= largest


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:38] + ".."


def write_scale(file: IO[bytes], scale: float) -> None:
    file.write(_SCALE.pack(scale))


def read_scale(file: IO[bytes]) -> float:
    """Raises InputError when it is missing, no number, or not positive."""
    data = file.read(_SCALE.size)
    if len(data) < _SCALE.size:
        raise InputError(_CUT_OFF)
    scale: float = _SCALE.unpack(data)[0]
    if not (math.isfinite(scale) and scale > 0):
        raise InputError(
            f"the loudness of a segment is {scale:g}, so the stream is damaged; fetch or compress it again."
        )
    return scale


class CodeWriter(Protocol):
    """Takes one payload's codes [K, t] block by block; `finish` completes its last byte."""

    def write(self, codes: np.ndarray) -> None: ...

    def finish(self) -> None: ...


class CodeReader(Protocol):
    """Gives one payload's next codes, [K, frames]. Raises InputError when the stream is cut off or damaged."""

    def read(self, frames: int) -> np.ndarray: ...


class PackedWriter:
    """Codes of `bits` bits each, lowest bit first: the number sum(code_i << bits * i), lowest byte first."""

    def __init__(self, file: IO[bytes], bits: int) -> None:
        self._file, self._bits = file, bits
        self._rest = np.zeros(0, dtype=np.int64)  # fewer than eight codes: eight always fill whole bytes

    def write(self, codes: np.ndarray) -> None:
        flat = np.concatenate([self._rest, codes.T.reshape(-1)])
        whole = len(flat) - len(flat) % 8
        self._file.write(pack(flat[:whole], self._bits))
        self._rest = flat[whole:]

    def finish(self) -> None:
        self._file.write(pack(self._rest, self._bits))
        self._rest = self._rest[:0]


class PackedReader:
    """The reverse of PackedWriter. `codebooks`: K."""

    def __init__(self, file: IO[bytes], bits: int, codebooks: int) -> None:
        self._file, self._bits, self._codebooks = file, bits, codebooks
        self._rest = np.zeros(0, dtype=np.uint8)  # bits of the last byte that are the next code's

    def read(self, frames: int) -> np.ndarray:
        count = frames * self._codebooks
        size = -(-(count * self._bits - len(self._rest)) // 8)
        data = self._file.read(size)
        if len(data) < size:
            raise InputError(_CUT_OFF)
        bits = np.concatenate([self._rest, np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")])
        self._rest = bits[count * self._bits :]
        return _codes(bits[: count * self._bits], self._bits).reshape(frames, self._codebooks).T


def pack(codes: np.ndarray, bits: int) -> bytes:
    """codes [n] -> ceil(n * bits / 8) bytes."""
    each = (codes[:, None] >> np.arange(bits)) & 1
    return np.packbits(each.astype(np.uint8).reshape(-1), bitorder="little").tobytes()


def _codes(bits: np.ndarray, width: int) -> np.ndarray:
    """0 or 1 [n * width], lowest first -> int64 [n]."""
    return bits.reshape(-1, width).astype(np.int64) @ (1 << np.arange(width))


class Checksum:
    """CRC-32 of all payloads and the header: of a segment's scale as in the file, where it has one, then of its codes
    as uint16, frame by frame; at the end, of the header's JSON without the checksum.
    """

    def __init__(self) -> None:
        self._value = 0

    def add_scale(self, scale: float) -> None:
        self._value = zlib.crc32(_SCALE.pack(scale), self._value)

    def add_codes(self, codes: np.ndarray) -> None:
        """codes [K, t]; how a payload is cut into blocks makes no difference."""
        self._value = zlib.crc32(codes.T.astype("<u2").tobytes(), self._value)

    def of(self, header: Header) -> int:
        """The checksum of what was added, under this header."""
        return zlib.crc32(_json(replace(header, checksum=None)), self._value)
