"""Published codecs to stand beside ours: Opus (RFC 6716), and Lyra V2, the published SoundStream (2107.03312).

Opus comes with libsndfile. Lyra is three tflite files (soundstream_encoder, quantizer, lyragan) of google/lyra and
wants a tflite runtime, `ai-edge-litert`, which only evaluation needs.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from audiogen_cli.errors import InputError, ModelError
from audiogen_cli.pipelines.rate_distortion import Stream

OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
OPUS_MIN_KBPS, OPUS_MAX_KBPS = 6.0, 256.0  # of a channel: what libsndfile's compression level 1 and 0 stand for
_HEADER_PAGES = 2  # OpusHead and OpusTags

LYRA_KBPS = (3.2, 6.0, 9.2)
LYRA_FILES = ("soundstream_encoder.tflite", "quantizer.tflite", "lyragan.tflite")
_LYRA_RATE, _LYRA_HOP, _LYRA_CODE_BITS = 16_000, 320, 4
_INSTALL = "pip install ai-edge-litert"


class Opus:
    """Variable rate, so that the bits have to be counted. kbps: of a channel, what the encoder is asked for."""

    def __init__(self, kbps: float, sample_rate: int, channels: int = 1) -> None:
        """sample_rate: any; the next one that Opus knows is used. Raises InputError for a rate it cannot be asked."""
        if not OPUS_MIN_KBPS <= kbps <= OPUS_MAX_KBPS:
            raise InputError(f"Opus cannot be asked for {kbps:g} kbps; ask for {OPUS_MIN_KBPS:g} to {OPUS_MAX_KBPS:g}.")
        self.name = "Opus"
        self.sample_rate = min((rate for rate in OPUS_RATES if rate >= sample_rate), default=OPUS_RATES[-1])
        self.channels = channels
        self._level = (OPUS_MAX_KBPS - kbps) / (OPUS_MAX_KBPS - OPUS_MIN_KBPS)

    def encode(self, waveform: Tensor) -> Stream:
        """The bits are those of the packets, without the pages of Ogg around them."""
        buffer, options = io.BytesIO(), {"subtype": "OPUS", "format": "OGG", "compression_level": self._level}
        with soundfile.SoundFile(buffer, "w", self.sample_rate, self.channels, **options) as file:
            for block in waveform.T.split(self.sample_rate):  # libsndfile keeps what it is given on the stack
                file.write(np.ascontiguousarray(block.numpy()))
        ogg = buffer.getvalue()
        return Stream(ogg, 8 * sum(list(_page_sizes(ogg))[_HEADER_PAGES:]))

    def decode(self, stream: Stream) -> Tensor:
        samples, _ = soundfile.read(io.BytesIO(stream.content), dtype="float32", always_2d=True)
        return torch.from_numpy(np.ascontiguousarray(samples.T))

    def coded_bits(self, stream: Stream) -> None:
        """Opus codes its entropy itself."""


class Lyra:
    """Streaming graphs that remember: each clip gets interpreters of its own, and hops of 20 ms."""

    def __init__(self, folder: Path, kbps: float) -> None:
        """Raises InputError for a rate that Lyra does not have, ModelError when its files or runtime are missing."""
        if kbps not in LYRA_KBPS:
            raise InputError(f"Lyra cannot make {kbps:g} kbps; it has {', '.join(map(str, LYRA_KBPS))}.")
        missing = [name for name in LYRA_FILES if not (folder / name).is_file()]
        if missing:
            raise ModelError(f"{folder} has no {missing[0]}; give the folder with the tflite files of google/lyra.")
        self.name, self.sample_rate, self.channels = "Lyra V2", _LYRA_RATE, 1
        self._folder = folder
        self._stages = round(kbps * 1000 * _LYRA_HOP / _LYRA_RATE / _LYRA_CODE_BITS)
        self._interpreter(LYRA_FILES[0])  # says at once when there is no runtime

    def encode(self, waveform: Tensor) -> Stream:
        """content: codes [stages, 1, 1] of each hop, -1 for the stages that are left out."""
        encoder = self._interpreter(LYRA_FILES[0])
        quantize = self._interpreter(LYRA_FILES[1]).get_signature_runner("encode")
        stages = np.array(self._stages, np.int32)
        codes = []
        for hop in _hops(waveform[0].numpy()):
            features = _run(encoder, hop)
            codes.append(quantize(input_frames=features, num_quantizers=stages)["output_0"])
        return Stream(codes, len(codes) * self._stages * _LYRA_CODE_BITS)

    def decode(self, stream: Stream) -> Tensor:
        features_of = self._interpreter(LYRA_FILES[1]).get_signature_runner("decode")
        decoder = self._interpreter(LYRA_FILES[2])
        hops = [_run(decoder, features_of(encoding_indices=codes)["output_0"]) for codes in stream.content]
        return torch.from_numpy(np.concatenate(hops, axis=-1))

    def coded_bits(self, stream: Stream) -> None:
        """There is no entropy model of Lyra's codes."""

    def _interpreter(self, name: str) -> Any:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ModelError(f"Lyra needs a tflite runtime; get it with `{_INSTALL}`.") from error
        try:
            interpreter = Interpreter(model_path=str(self._folder / name), num_threads=1)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                f"{self._folder / name} cannot be run ({error}); get it from google/lyra again."
            ) from error
        return interpreter


def _run(interpreter: Any, values: np.ndarray) -> np.ndarray:
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
    interpreter.invoke()
    found: np.ndarray = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return found


def _hops(samples: np.ndarray) -> Iterator[np.ndarray]:
    """[N] -> [1, 320] each, the last one completed with silence."""
    padded = np.pad(samples, (0, -len(samples) % _LYRA_HOP)).astype(np.float32)
    yield from padded.reshape(-1, 1, _LYRA_HOP)


def _page_sizes(ogg: bytes) -> Iterator[int]:
    """The bytes of each page's body (RFC 3533): a page has its count of segments at 26, then their sizes."""
    start = 0
    while start < len(ogg):
        segments = ogg[start + 26]
        body = sum(ogg[start + 27 : start + 27 + segments])
        yield body
        start += 27 + segments + body
