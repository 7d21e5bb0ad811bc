"""The only place where a sound file becomes a waveform [C, N], and a waveform a sound file.

libsndfile decodes WAV, FLAC, OGG (Vorbis, Opus), MP3, AIFF and others, soxr resamples. The same waveform and comment
always give the same bytes: WAV is written here, because libsndfile puts the time into float files and cannot read back
comments of more than a few kB, and Ogg streams get a serial number made from their content instead of a random one.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal, NamedTuple, get_args

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from audiogen_cli.data.files import replacing
from audiogen_cli.errors import AudioError, OutputError

Format = Literal["wav", "flac", "ogg"]
BitDepth = Literal["16", "24", "float"]
Normalization = Literal["peak", "loudness", "none"]

PEAK_DB = -1.0  # dBFS, the ceiling of both normalisations
LOUDNESS_LUFS = -16.0
_OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
_OPUS_COMMENT_BYTES = 50_000  # libsndfile writes longer ones and then cannot open the file
_WAV_MAX_BYTES = 2**32 - 2**16
_UNKNOWN = 2**32 - 1  # RF64: the size stands elsewhere
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".oga", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64", ".rf64")


class Audio(NamedTuple):
    """waveform: float32 [C, N]; sample_rate in Hz."""

    waveform: Tensor
    sample_rate: int


class AudioInfo(NamedTuple):
    """What the header says. `format` and `subtype` are libsndfile's names; `comment` is "" where there is none."""

    seconds: float
    sample_rate: int
    channels: int
    format: str
    subtype: str
    comment: str


def read(path: str | os.PathLike[str], sample_rate: int | None = None, channels: int | None = None) -> Audio:
    """Decodes a whole file, remixed and resampled where asked.

    Raises AudioError when the file is missing, is no sound file, is empty, or holds NaN or infinite samples.
    """
    with opened(path) as file:
        samples = file.read(dtype="float32", always_2d=True)  # [N, C]
        source_rate = file.samplerate
    if not len(samples):
        raise AudioError(f"{path} holds no sound at all (0 samples); give a recording that has some.")
    if not np.isfinite(samples).all():
        raise AudioError(f"{path} holds samples that are not numbers (NaN or infinity); repair or export it again.")
    waveform = torch.from_numpy(np.ascontiguousarray(samples.T))  # [C, N]
    if channels is not None:
        waveform = remix(waveform, channels)
    if sample_rate is not None:
        waveform = resample(waveform, source_rate, sample_rate)
        if not waveform.shape[1]:
            raise AudioError(f"{path} is too short to be resampled to {sample_rate} Hz; give a longer recording.")
    return Audio(waveform, sample_rate or source_rate)


def info(path: str | os.PathLike[str]) -> AudioInfo:
    """Reads the header and the comment, not the sound. Raises AudioError as `read` does."""
    with opened(path) as file:
        comment = _wav_comment(path) if file.format in ("WAV", "WAVEX") else file.comment
        seconds = file.frames / file.samplerate
        return AudioInfo(seconds, file.samplerate, file.channels, file.format, file.subtype, comment)


def write(
    path: str | os.PathLike[str],
    waveform: Tensor,
    sample_rate: int,
    bit_depth: BitDepth = "16",
    format: Format | None = None,  # noqa: A002
    comment: str | None = None,
    force: bool = False,
) -> None:
    """Writes waveform [C, N] whole or not at all; `format` None goes by the file's ending.

    16 and 24 bits clip to [-1, 1] and round, without dither; "float" WAV keeps every sample as it is. The comment goes
    into the file's own metadata. Raises OutputError when it cannot be written as asked.
    """
    data = encode(waveform, sample_rate, bit_depth, format or format_of(path), comment)
    with replacing(path, force) as file:
        file.write(data)


def format_of(path: str | os.PathLike[str]) -> Format:
    """The format that a file name asks for; OutputError when it is none that we write."""
    suffix = Path(path).suffix.lower()
    formats: dict[str, Format] = {".wav": "wav", ".flac": "flac", ".ogg": "ogg", ".opus": "ogg", ".oga": "ogg"}
    if suffix not in formats:
        raise OutputError(f"cannot tell the format of {path}; let the name end in .wav, .flac or .ogg.")
    return formats[suffix]


def encode(
    waveform: Tensor,
    sample_rate: int,
    bit_depth: BitDepth = "16",
    format: Format = "wav",  # noqa: A002
    comment: str | None = None,
) -> bytes:
    """The bytes of the sound file that `write` writes."""
    if format not in get_args(Format) or bit_depth not in get_args(BitDepth):
        raise OutputError(f"cannot write {format} at bit depth {bit_depth}; use wav, flac or ogg and 16, 24 or float.")
    samples = np.ascontiguousarray(waveform.detach().cpu().float().numpy().T)  # [N, C]
    if format == "wav":
        data = pcm(samples, bit_depth)
        return (
            wav_header(len(samples), samples.shape[1], sample_rate, bit_depth, comment) + data + b"\0" * (len(data) % 2)
        )
    if format == "flac":
        return _encode_flac(samples, sample_rate, bit_depth, comment)
    return _encode_ogg(samples, sample_rate, comment)


def resample(waveform: Tensor, source_rate: int, target_rate: int) -> Tensor:
    """[C, N] -> [C, round(N * target_rate / source_rate)], soxr's high quality."""
    if source_rate == target_rate:
        return waveform
    samples = np.ascontiguousarray(waveform.numpy().T)
    return torch.from_numpy(np.ascontiguousarray(soxr.resample(samples, source_rate, target_rate, quality="HQ").T))


def remix(waveform: Tensor, channels: int) -> Tensor:
    """[C, N] -> [channels, N]: the same when the count fits, else the mean of all channels in each."""
    if waveform.shape[0] == channels:
        return waveform
    return waveform.mean(dim=0, keepdim=True).repeat(channels, 1)


def normalize(waveform: Tensor, sample_rate: int, how: Normalization = "peak") -> Tensor:
    """Gain only. "peak" puts the peak at -1 dBFS; "loudness" aims at -16 LUFS but lets no peak above -1 dBFS."""
    peak = float(waveform.abs().max()) if waveform.numel() else 0.0
    if how == "none" or peak == 0.0:
        return waveform
    gain_db = PEAK_DB - _decibel(peak)
    if how == "loudness":
        gain_db = min(gain_db, LOUDNESS_LUFS - loudness(waveform, sample_rate))
    return waveform * 10 ** (gain_db / 20)


def fade(waveform: Tensor, sample_rate: int, seconds: float) -> Tensor:
    """Raised-cosine fades at both ends, at most half of the sound each."""
    count = min(round(seconds * sample_rate), waveform.shape[-1] // 2)
    if count <= 0:
        return waveform
    ramp = 0.5 - 0.5 * torch.cos(torch.pi * (torch.arange(count, dtype=waveform.dtype) + 0.5) / count)
    faded = waveform.clone()
    faded[..., :count] *= ramp
    faded[..., -count:] *= ramp.flip(0)
    return faded


def loudness(waveform: Tensor, sample_rate: int) -> float:
    """Integrated loudness in LUFS (ITU-R BS.1770-4): K-weighting, blocks of 400 ms, gates at -70 LUFS and -10 LU.

    A sound shorter than a block counts as one block; silence is -inf.
    """
    weighted = _k_weighted(waveform.double(), sample_rate)
    block, hop = round(0.4 * sample_rate), round(0.1 * sample_rate)
    if weighted.shape[1] < block:
        power = weighted.square().mean(dim=1).sum()[None]
    else:
        power = weighted.unfold(1, block, hop).square().mean(dim=2).sum(dim=0)  # [blocks]
    level = -0.691 + 10 * torch.log10(power)
    power, level = power[level > -70], level[level > -70]
    if not len(power):
        return -np.inf
    relative = -0.691 + 10 * torch.log10(power.mean()) - 10
    return float(-0.691 + 10 * torch.log10(power[level > relative].mean()))


def _k_weighted(waveform: Tensor, sample_rate: int) -> Tensor:
    """The two filters of BS.1770 (a shelf above 1.7 kHz, a high-pass at 38 Hz), applied in the frequency domain."""
    length = waveform.shape[1]
    size = length + sample_rate  # a second of silence takes up the filters' tails
    z = torch.exp(-2j * torch.pi * torch.arange(size // 2 + 1, dtype=torch.float64) / size)  # z^-1 on the unit circle
    response = _biquad(1681.9745, 0.7071752, 3.9998439, sample_rate, z) * _biquad(
        38.135471, 0.5003270, None, sample_rate, z
    )
    return torch.fft.irfft(torch.fft.rfft(waveform, size) * response, size)[:, :length]


def _biquad(frequency: float, q: float, gain_db: float | None, sample_rate: int, z: Tensor) -> Tensor:
    """Response of the standard's high shelf (with a gain) or high-pass (without), by bilinear transform at any rate."""
    k = np.tan(np.pi * min(frequency / sample_rate, 0.499))
    high = 1.0 if gain_db is None else 10 ** (gain_db / 20)
    middle = 0.0 if gain_db is None else high**0.4996667741545416
    low = 0.0 if gain_db is None else 1.0
    a0 = 1 + k / q + k * k
    b = [high + middle * k / q + low * k * k, 2 * (low * k * k - high), high - middle * k / q + low * k * k]
    a = [a0, 2 * (k * k - 1), 1 - k / q + k * k]
    if gain_db is None:
        b = [a0, -2 * a0, a0]  # the standard's high-pass has the numerator 1, -2, 1 at every rate
    return (b[0] + b[1] * z + b[2] * z**2) / (a[0] + a[1] * z + a[2] * z**2)


def _decibel(amplitude: float) -> float:
    return 20 * float(np.log10(amplitude))


@contextlib.contextmanager
def opened(source: str | os.PathLike[str] | IO[bytes]) -> Iterator[soundfile.SoundFile]:
    """A sound file by its path, or stdin as a file that can be searched. Raises AudioError as `read` does."""
    name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else "stdin"
    try:
        with open(source, "rb") if isinstance(source, (str, os.PathLike)) else contextlib.nullcontext(source) as file:
            empty = not file.read(1)
            file.seek(0)
    except (OSError, ValueError) as error:
        raise AudioError(f"cannot read {name}: {_read_problem(error)}.") from error
    if empty:
        raise AudioError(f"{name} is an empty file; give a recording.")
    unreadable = f"{name} is not a sound file that can be read; convert it to WAV, FLAC, OGG, Opus, MP3 or AIFF."
    try:
        sound = soundfile.SoundFile(source)
    except UnicodeEncodeError as error:
        raise AudioError(f"the file name {name!a} is not UTF-8, as sound files' must be; rename it.") from error
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a raw file, whose rate nobody knows
        raise AudioError(unreadable) from error
    with sound:
        try:
            yield sound
        except soundfile.LibsndfileError as error:
            raise AudioError(unreadable) from error


def _read_problem(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file; check the path"
    if isinstance(error, IsADirectoryError):
        return "it is a folder; name a sound file"
    if isinstance(error, PermissionError):
        return "permission denied; check who owns the file"
    return f"{getattr(error, 'strerror', None) or error}; check the path"


def integers(samples: np.ndarray, bits: int) -> np.ndarray:
    """Rounded to multiples of 2^(1 - bits), a reader's unit, so that read and written again stays the same."""
    scale = 2 ** (bits - 1)
    return np.clip(np.round(samples.astype(np.float64) * scale), -scale, scale - 1).astype("<i4")


def pcm(samples: np.ndarray, bit_depth: BitDepth) -> bytes:
    """samples [N, C] as WAV stores them."""
    if bit_depth == "float":
        return samples.astype("<f4").tobytes()
    if bit_depth == "24":
        little = integers(samples, 24).reshape(-1, 1).view(np.uint8)  # [N * C, 4], the last byte is the sign's
        return little[:, :3].tobytes()
    return integers(samples, 16).astype("<i2").tobytes()


def wav_header(length: int, channels: int, sample_rate: int, bit_depth: BitDepth, comment: str | None = None) -> bytes:
    """What stands before `length` samples a channel of PCM: RIFF, fmt, fact (float only), LIST/INFO/ICMT, data.

    A sound of 4 GB or more gets RF64 (EBU Tech 3306), which is RIFF with its sizes in a chunk of their own.
    """
    kind, width = (3, 4) if bit_depth == "float" else (1, int(bit_depth) // 8)
    frame = channels * width
    chunks = _chunk(b"fmt ", struct.pack("<HHIIHH", kind, channels, sample_rate, sample_rate * frame, frame, 8 * width))
    if bit_depth == "float":
        chunks += _chunk(b"fact", struct.pack("<I", min(length, _UNKNOWN)))
    if comment:
        chunks += _chunk(b"LIST", b"INFO" + _chunk(b"ICMT", comment.encode() + b"\0"))
    size = length * frame
    if size > _WAV_MAX_BYTES:
        sizes = struct.pack("<QQQI", 4 + 36 + len(chunks) + 8 + size + size % 2, size, length, 0)
        chunks = _chunk(b"ds64", sizes) + chunks
        return b"RF64" + struct.pack("<I", _UNKNOWN) + b"WAVE" + chunks + b"data" + struct.pack("<I", _UNKNOWN)
    whole = 4 + len(chunks) + 8 + size + size % 2
    return b"RIFF" + struct.pack("<I", whole) + b"WAVE" + chunks + b"data" + struct.pack("<I", size)


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _wav_comment(path: str | os.PathLike[str]) -> str:
    """The ICMT string of a RIFF file's INFO list, of any length."""
    with open(path, "rb") as file:
        file.seek(12)
        for name, size in _chunks(file, os.path.getsize(path)):
            if name == b"LIST" and file.read(4) == b"INFO":
                for inner, length in _chunks(file, file.tell() + size - 4):
                    if inner == b"ICMT":
                        return file.read(length).rstrip(b"\0").decode(errors="replace")
    return ""


def _chunks(file: IO[bytes], end: int) -> Iterator[tuple[bytes, int]]:
    """Names and sizes of the RIFF chunks up to `end`; the file stands at a chunk's data when it is yielded."""
    while (start := file.tell()) + 8 <= end:
        header = file.read(8)
        if len(header) < 8:
            return
        name, size = struct.unpack("<4sI", header)
        yield name, size
        file.seek(start + 8 + size + size % 2)


def _encode_flac(samples: np.ndarray, sample_rate: int, bit_depth: BitDepth, comment: str | None) -> bytes:
    if bit_depth == "float":
        raise OutputError("FLAC holds whole numbers only; use --bit-depth 24, or --format wav for float.")
    if bit_depth == "24":
        return _encode_libsndfile(integers(samples, 24) << 8, sample_rate, "FLAC", "PCM_24", comment)
    return _encode_libsndfile(integers(samples, 16).astype(np.int16), sample_rate, "FLAC", "PCM_16", comment)


def _encode_ogg(samples: np.ndarray, sample_rate: int, comment: str | None) -> bytes:
    """Opus at the rates it knows, else Vorbis; both are lossy, so there is no bit depth."""
    subtype = "OPUS" if sample_rate in _OPUS_RATES else "VORBIS"
    if subtype == "OPUS" and len((comment or "").encode()) > _OPUS_COMMENT_BYTES:
        raise OutputError("the text stored with the sound is too long for Ogg Opus; shorten it or use --format wav.")
    return _with_serial(_encode_libsndfile(np.clip(samples, -1, 1), sample_rate, "OGG", subtype, comment))


def _encode_libsndfile(samples: np.ndarray, sample_rate: int, major: str, subtype: str, comment: str | None) -> bytes:
    buffer = io.BytesIO()
    try:
        with soundfile.SoundFile(buffer, "w", sample_rate, samples.shape[1], subtype, format=major) as file:
            if comment:
                file.comment = comment
            # In pieces: libsndfile's encoders keep what they are given on the stack.
            for start in range(0, len(samples), sample_rate):
                file.write(samples[start : start + sample_rate])
    except soundfile.LibsndfileError as error:
        raise OutputError(
            f"{major} cannot hold {samples.shape[1]} channels at {sample_rate} Hz; use --format wav."
        ) from error
    return buffer.getvalue()


def _with_serial(ogg: bytes) -> bytes:
    """The same Ogg stream with one serial number, made from the content, on all pages, and their checksums renewed.

    A page (RFC 3533): "OggS", version, type, position [8], serial [4] at 14, number [4], checksum [4] at 22, count of
    segments at 26, their sizes, the body.
    """
    pages, start = [], 0
    while start < len(ogg):
        segments = ogg[start + 26]
        size = 27 + segments + sum(ogg[start + 27 : start + 27 + segments])
        page = bytearray(ogg[start : start + size])
        page[14:18] = page[22:26] = bytes(4)
        pages.append(page)
        start += size
    serial = struct.pack("<I", zlib.crc32(b"".join(pages)))
    for page in pages:
        page[14:18] = serial
        page[22:26] = struct.pack("<I", _ogg_checksum(page))
    return b"".join(pages)


def _ogg_checksum(page: bytearray) -> int:
    """CRC-32 with the polynomial 0x04C11DB7, most significant bit first, starting at zero."""
    checksum = 0
    for byte in page:
        checksum = (checksum << 8) & 0xFFFFFFFF ^ _OGG_TABLE[checksum >> 24 ^ byte]
    return checksum


def _ogg_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        value <<= 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 * (value >> 31)) & 0xFFFFFFFF
        table.append(value)
    return tuple(table)


_OGG_TABLE = _ogg_table()
