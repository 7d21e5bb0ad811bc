"""The container: golden bytes, both ways with the package's own reader and writer, and what is no header."""

from __future__ import annotations

import io
import json
import struct
import sys
import types
from typing import Any

import numpy as np
import pytest

from audiogen_cli.errors import InputError
from audiogen_cli.formats import ecdc
from audiogen_cli.formats.ecdc import Checksum, Header, PackedReader, PackedWriter

GOLDEN = Header("encodec_24khz", 24_000, 8, False)
GOLDEN_BYTES = bytes.fromhex(
    "4543444300000000397b226d223a2022656e636f6465635f32346b687a222c2022616c223a2032343030302c20226e63223a20382c20226c"
    "6d223a2066616c73657d"
)
FULL = Header("small", 16_000, 4, True, "spectral", "0123456789ab", 44_100, 2, 44_100, 0)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(sys.modules, "torchaudio", types.ModuleType("torchaudio"))
    return pytest.importorskip("encodec.binary", reason="pip install --no-deps encodec einops")


def header_bytes(header: Header) -> bytes:
    file = io.BytesIO()
    ecdc.write_header(file, header)
    return file.getvalue()


def around(data: bytes) -> bytes:
    return struct.pack("!4sBI", b"ECDC", 0, len(data)) + data


def packed(codes: np.ndarray, bits: int, block: int) -> bytes:
    file = io.BytesIO()
    writer = PackedWriter(file, bits)
    for start in range(0, codes.shape[1], block):
        writer.write(codes[:, start : start + block])
    writer.finish()
    return file.getvalue()


def test_golden_header() -> None:
    assert header_bytes(GOLDEN) == GOLDEN_BYTES
    assert ecdc.read_header(io.BytesIO(GOLDEN_BYTES)) == GOLDEN


def test_golden_payload() -> None:
    assert ecdc.pack(np.array([1, 2, 3, 1023]), 10).hex() == "010830c0ff"
    assert ecdc.pack(np.arange(8), 10).hex() == "000420c000041460c001"


def test_our_own_keys_come_back_and_the_package_reads_past_them(package: Any) -> None:
    data = header_bytes(FULL)
    assert ecdc.read_header(io.BytesIO(data)) == FULL
    values = package.read_ecdc_header(io.BytesIO(data))
    assert list(values)[:4] == ["m", "al", "nc", "lm"] and values["al"] == 16_000
    more = around(json.dumps(values | {"colour": "blue"}).encode())
    assert ecdc.read_header(io.BytesIO(more)) == FULL


@pytest.mark.parametrize("bits", [1, 4, 10, 11])
@pytest.mark.parametrize("codebooks", [1, 2, 3, 8])
def test_packed_codes_are_the_packages_whatever_the_blocks(package: Any, bits: int, codebooks: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 2**bits, (codebooks, 53))
    theirs = io.BytesIO()
    packer = package.BitPacker(bits, theirs)
    for value in codes.T.reshape(-1).tolist():
        packer.push(value)
    packer.flush()
    for block in (1, 3, 8, 53):
        assert packed(codes, bits, block) == theirs.getvalue()
    file = io.BytesIO(theirs.getvalue() + b"next")
    reader = PackedReader(file, bits, codebooks)
    assert np.array_equal(np.concatenate([reader.read(n) for n in (1, 20, 2, 30)], axis=1), codes)
    assert file.read() == b"next"


def test_the_checksum_does_not_see_blocks_but_every_code_and_scale() -> None:
    codes = np.random.default_rng(0).integers(0, 1024, (4, 50))

    def of(*blocks: np.ndarray, scale: float = 0.5, header: Header = FULL) -> int:
        checksum = Checksum()
        checksum.add_scale(scale)
        for block in blocks:
            checksum.add_codes(block)
        return checksum.of(header)

    assert of(codes) == of(codes[:, :7], codes[:, 7:])
    other = codes.copy()
    other[3, 49] ^= 1
    longer = Header("small", 16_001, 4, True)
    assert len({of(codes), of(other), of(codes, scale=0.25), of(codes, header=longer)}) == 4


def test_a_scale_is_a_positive_number() -> None:
    file = io.BytesIO()
    ecdc.write_scale(file, 1e-8)
    assert file.getvalue() == struct.pack("!f", 1e-8)
    assert ecdc.read_scale(io.BytesIO(file.getvalue())) == pytest.approx(1e-8)
    for damaged in (b"\0\0\0", struct.pack("!f", np.nan), struct.pack("!f", np.inf), struct.pack("!f", -1.0)):
        with pytest.raises(InputError, match=r"cut off|damaged"):
            ecdc.read_scale(io.BytesIO(damaged))


def test_cut_payloads_are_refused() -> None:
    data = packed(np.ones((2, 9), dtype=np.int64), 10, 9)
    with pytest.raises(InputError, match="ends too early"):
        PackedReader(io.BytesIO(data[:-1]), 10, 2).read(9)


BAD = {
    b"": "empty file",
    b"EC": "ends too early",
    b"RIFF....WAVEfmt ": "no .ecdc file",
    b"ECDC\x01\0\0\0\2{}": "version 1",
    b"ECDC\0\xff\xff\xff\xff{}": "claims 4294967295 bytes",
    GOLDEN_BYTES[:30]: "ends too early",
    around(b""): "ends too early",
    around(b"{nonsense"): "damaged",
    around(b"\xff\xfe"): "damaged",
    around(b"[" * 60_000): "damaged",
    around(b"[1]"): "no JSON object",
    around(b"{}"): "lacks 'm'",
    around(b'{"m": "x", "al": 5, "nc": 4, "lm": 1}'): "'lm' cannot be 1",
    around(b'{"m": "x", "al": -5, "nc": 4, "lm": false}'): "'al' cannot be -5",
    around(b'{"m": "x", "al": 5.5, "nc": 4, "lm": false}'): "'al' cannot be 5.5",
    around(b'{"m": "x", "al": 9999999999999999, "nc": 4, "lm": false}'): "'al' cannot be",
    around(b'{"m": "x", "al": 5, "nc": true, "lm": false}'): "'nc' cannot be True",
    around(b'{"m": "\\u001b[2J", "al": 5, "nc": 1, "lm": false}'): "'m' cannot be",
    around(b'{"m": "%s", "al": 5, "nc": 1, "lm": false}' % (b"x" * 300)): "'m' cannot be",
    around(b'{"m": ["x"], "al": 5, "nc": 1, "lm": false}'): "'m' cannot be",
    around(b'{"m": "x", "al": 5, "nc": 1, "lm": false, "channels": 100000}'): "'channels' cannot be",
}


@pytest.mark.parametrize("data", BAD, ids=lambda data: repr(data[:40]))
def test_what_is_no_header_is_one_sentence(data: bytes) -> None:
    with pytest.raises(InputError, match=BAD[data]) as caught:
        ecdc.read_header(io.BytesIO(data))
    assert str(caught.value).endswith(".") and len(str(caught.value)) < 200


def test_a_name_that_no_reader_would_take_is_not_written() -> None:
    for name in ("", "x" * 300, "a\nb"):
        with pytest.raises(InputError, match="rename its folder"):
            header_bytes(Header(name, 1, 1, False))
