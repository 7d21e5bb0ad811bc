"""Sound to `.ecdc` bytes and back, in memory that does not grow with the sound.

    recording -> blocks -> segments of codes -> payloads: packed, or coded by the probabilities of an entropy model

Files of the published EnCodec models are those of the `encodec` package, both ways. Its release on PyPI cannot read
sounds of some lengths; ours get a few samples of silence more (`readable_length`), which restoring takes off again.
Ours also end in a checksum, so that a damaged file, or one whose probabilities came out differently here, is an error
and never noise.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from typing import IO, Literal, NamedTuple

import torch
from torch import Tensor

from audiogen_cli.data.audio import BitDepth, remix
from audiogen_cli.data.blocks import BlockWriter, fitted, reading, resampled
from audiogen_cli.errors import InputError, ModelError
from audiogen_cli.formats.arithmetic import min_bits
from audiogen_cli.formats.ecdc import (
    MAX_CHANNELS,
    Checksum,
    CodeReader,
    CodeWriter,
    Header,
    PackedReader,
    PackedWriter,
    read_scale,
    write_header,
    write_scale,
)
from audiogen_cli.hub.checkpoint import kind_of
from audiogen_cli.hub.codecs import NamedCodec
from audiogen_cli.hub.encodec import PRESETS
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.encodec import EncodecConfig
from audiogen_cli.models.segments import Segment, decode_segments, encode_segments, has_scales, segment_lengths
from audiogen_cli.pipelines.entropy import EntropyModel, EntropyReader, EntropyWriter
from audiogen_cli.quantizers.rvq import ResidualVQ

DEFAULT_KBPS = 6.0
_FRAMES = 500  # decoded at once
_PIECE = 4096  # samples resampled at once
_SPOOL = 1 << 20  # bytes of payload kept in memory, the rest goes to disk
_UNFAITHFUL = "it is damaged: its checksum is that of other codes; fetch or compress it again."
_UNFAITHFUL_LM = (
    "its codes are not those that were written: it is damaged, or probabilities come out differently here; "
    "fetch it again, or decompress it where it was compressed."
)


class Progress(NamedTuple):
    """Seconds of sound done, of how many."""

    seconds: float
    total: float


class Summary(NamedTuple):
    """seconds of sound; size: bytes of the `.ecdc` file; header: what that says."""

    seconds: float
    size: int
    header: Header

    @property
    def kbps(self) -> float:
        return 8 * self.size / 1000 / self.seconds


def codebooks_for(codec: Codec, kbps: float | None) -> int:
    """The most codebooks that keep to so many kbps before entropy coding; None: 6, or all there are if that is less.

    Raises InputError when not even one does, or all of them make less.
    """
    each = codec.frame_rate * code_bits(codec) / 1000  # kbps
    most = each * codec.num_codebooks
    if kbps is None:
        kbps = min(max(DEFAULT_KBPS, each), most)
    if not 0.999 * each <= kbps <= 1.001 * most:
        raise InputError(f"this codec cannot make {kbps:g} kbps; ask for {each:g} to {most:g} with --kbps.")
    return min(codec.num_codebooks, int(kbps / each + 0.001))


def search(codec: Codec, width: int) -> None:
    """Has the codec keep `width` sums while it looks for codes (RVQConfig.search_width), which any decoder understands.

    Raises InputError for a codec without residual vector quantization.
    """
    stages = [module for module in codec.modules() if isinstance(module, ResidualVQ)]
    if not stages:
        raise InputError("this codec has no residual vector quantization to search in; leave --search out.")
    for module in stages:
        module.search_width = width


def code_bits(codec: Codec) -> int:
    return (codec.codebook_size - 1).bit_length()


# ---- sound -> bytes


def compress(
    codec: NamedCodec,
    source: str | os.PathLike[str] | IO[bytes],
    sink: IO[bytes],
    num_codebooks: int,
    entropy: EntropyModel | None = None,
) -> Generator[Progress, None, Summary]:
    """Reads a recording of any length, writes the `.ecdc` file to `sink` when all of it is coded.

    Raises AudioError when the recording cannot be read.
    """
    model = codec.codec
    with (
        reading(source, model.sample_rate, model.channels) as sound,
        tempfile.SpooledTemporaryFile(max_size=_SPOOL) as payload,
    ):
        checksum = Checksum()
        samples = _Padded(sound, PRESETS.get(codec.name))
        for segment in encode_segments(model, samples, num_codebooks):
            for _ in _write_segment(payload, segment, checksum, code_bits(model), entropy):
                yield Progress(samples.length / model.sample_rate, sound.seconds)
        header = Header(
            codec.name,
            samples.length,
            num_codebooks,
            entropy is not None,
            kind_of(model),
            model.fingerprint(),
            sound.rate,
            min(sound.channels, MAX_CHANNELS),
            sound.length,
        )
        header = replace(header, checksum=checksum.of(header))
        write_header(sink, header)
        payload.seek(0)
        shutil.copyfileobj(payload, sink)
        return Summary(sound.length / sound.rate, sink.tell(), header)


def readable_length(config: EncodecConfig, length: int) -> int:
    """The least length, `length` or above, of a sound that the package's release on PyPI decodes.

    It counts frames in floating point, and finds one too many in some multiples of the hop; and at 48 kHz it stumbles
    over a last segment that is shorter than what the segment before it reaches into it.
    """
    while not _is_readable(config, length):
        length += 1
    return length


def _is_readable(config: EncodecConfig, length: int) -> bool:
    hop = math.prod(config.ratios)
    frame_rate = config.sample_rate / hop
    size, stride = config.segment_length or length, config.segment_stride or length
    last = (length - 1) % stride + 1
    lengths = [last] if last == length else [min(size, stride + last), last]
    if any(math.ceil(n / config.sample_rate * frame_rate) != -(-n // hop) for n in lengths):
        return False
    ends = [place * stride + -(-n // hop) * hop for place, n in enumerate(lengths)]
    return ends[0] <= ends[-1]


class _Padded:
    """The blocks [1, C, n] of a recording, a published model's followed by silence up to a readable length."""

    def __init__(self, blocks: Iterable[Tensor], config: EncodecConfig | None) -> None:
        self._blocks, self._config = blocks, config
        self.length = 0

    def __iter__(self) -> Iterator[Tensor]:
        for block in self._blocks:
            self.length += block.shape[1]
            yield block[None]
        if self._config is not None and self.length:
            missing = readable_length(self._config, self.length) - self.length
            self.length += missing
            yield block.new_zeros(1, block.shape[0], missing)


def _write_segment(
    file: IO[bytes], segment: Segment, checksum: Checksum, bits: int, entropy: EntropyModel | None
) -> Iterator[None]:
    if segment.scale is not None:
        write_scale(file, segment.scale)
        checksum.add_scale(segment.scale)
    writer: CodeWriter = PackedWriter(file, bits) if entropy is None else EntropyWriter(file, entropy)
    for block in segment.codes:
        codes = block[0].cpu().numpy()  # [K, t]
        writer.write(codes)
        checksum.add_codes(codes)
        yield
    writer.finish()


# ---- bytes -> sound


def decompress(
    header: Header,
    source: IO[bytes],
    sink: IO[bytes],
    codec: Codec,
    entropy: EntropyModel | None = None,
    restore: bool = True,
    bit_depth: BitDepth = "16",
    format: Literal["wav", "flac"] = "wav",  # noqa: A002
) -> Generator[Progress, None, Summary]:
    """Reads what follows the header in a file that can be searched; writes a WAV or FLAC file.

    restore: at the rate, channels and length of the recording, where the header says them; else the codec's.
    Raises InputError when the stream is cut off, damaged, or decoded to other codes than were written. What `sink` has
    got by then is to be thrown away.
    """
    payload = _check(header, source, codec)
    rate, channels, length = _shape(header, codec, restore)
    writer = BlockWriter(sink, length, channels, rate, bit_depth, format)
    checksum, done = Checksum(), 0
    decoded = decode_segments(codec, _read_segments(source, header, codec, entropy, checksum))
    for piece in _restored(decoded, codec, header.length, rate, channels):
        kept = piece[:, : length - done]
        writer.write(kept)
        done += kept.shape[1]
        yield Progress(done / rate, length / rate)
    for silence in fitted([], length - done):
        writer.write(silence.expand(channels, -1))
    writer.finish()
    if header.checksum is not None and checksum.of(header) != header.checksum:
        raise InputError(_UNFAITHFUL_LM if header.lm else _UNFAITHFUL)
    return Summary(length / rate, payload, header)


def check_codec(header: Header, codec: NamedCodec) -> None:
    """Raises ModelError unless the codes are this codec's."""
    name, found = codec.name, codec.codec.fingerprint()
    if header.fingerprint is not None and header.fingerprint != found:
        raise ModelError(
            f"it was compressed with codec {header.model} ({header.fingerprint}), and {name} is {found}; name the "
            "right one with --model."
        )
    if header.fingerprint is None and header.model != name:
        raise ModelError(
            f"it was compressed with {header.model}, and not with {name}; name the right one with --model."
        )
    if header.codebooks > codec.codec.num_codebooks:
        raise InputError(f"it claims {header.codebooks} codebooks, which {name} has not; fetch or compress it again.")


def _check(header: Header, source: IO[bytes], codec: Codec) -> int:
    """The size of the file. Raises InputError when it is too short for what its header claims, or that is absurd."""
    start = source.tell()
    size = source.seek(0, os.SEEK_END)
    source.seek(start)
    codes = codec.num_frames(header.length) * header.codebooks
    bits = codes * (min_bits(codec.codebook_size) if header.lm else code_bits(codec))
    if bits > 8 * (size - start):
        raise InputError("the stream is too short for the length that it claims; fetch or compress it again.")
    if header.source_length is not None and header.source_rate is not None:
        seconds, claimed = header.length / codec.sample_rate, header.source_length / header.source_rate
        if abs(seconds - claimed) > 0.01 + 2 / header.source_rate:
            raise InputError("its header is damaged: its lengths contradict each other; fetch or compress it again.")
    return size


def _shape(header: Header, codec: Codec, restore: bool) -> tuple[int, int, int]:
    """Rate in Hz, channels and samples a channel of the sound to write."""
    rate = header.source_rate or codec.sample_rate
    length = header.length if header.source_length is None else header.source_length
    if restore:
        return rate, header.source_channels or codec.channels, length
    return codec.sample_rate, codec.channels, min(header.length, max(1, round(length * codec.sample_rate / rate)))


def _read_segments(
    file: IO[bytes], header: Header, codec: Codec, entropy: EntropyModel | None, checksum: Checksum
) -> Iterator[Segment]:
    for length in segment_lengths(codec, header.length):
        scale = read_scale(file) if has_scales(codec) else None
        if scale is not None:
            checksum.add_scale(scale)
        reader: CodeReader = PackedReader(file, code_bits(codec), header.codebooks)
        if header.lm:
            assert entropy is not None
            reader = EntropyReader(file, entropy, header.codebooks)
        yield Segment(_read_blocks(reader, codec.num_frames(length), codec.codebook_size, checksum), scale)


def _read_blocks(reader: CodeReader, frames: int, codebook_size: int, checksum: Checksum) -> Iterator[Tensor]:
    """[1, K, t]."""
    for start in range(0, frames, _FRAMES):
        codes = reader.read(min(_FRAMES, frames - start))
        if codes.max() >= codebook_size:
            raise InputError(f"it holds a code beyond {codebook_size}, so it is damaged; fetch or compress it again.")
        checksum.add_codes(codes)
        yield torch.from_numpy(codes.copy())[None]


def _restored(blocks: Iterable[Tensor], codec: Codec, length: int, rate: int, channels: int) -> Iterator[Tensor]:
    """blocks [1, C, n] -> [channels, n] at `rate`, of the first `length` samples of them."""
    sound = fitted((block[0].cpu() for block in blocks), length)
    pieces = (remix(piece, min(channels, codec.channels)) for block in sound for piece in block.split(_PIECE, dim=1))
    for piece in resampled(pieces, codec.sample_rate, rate):
        yield remix(piece, channels)
