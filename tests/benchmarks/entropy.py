"""What a codec's entropy model saves on held-out recordings, and how fast: python tests/benchmarks/entropy.py FOLDER

    --source NAME   of the recordings those only that come from there
    --clips 40      at most
    --model NAME    whose codec

FOLDER is prepared by `audiolm prepare`. Prints the rate before and after for four numbers of codebooks, then times real
time of the coding alone: ours, and the `encodec` package's model and coder with the same weights on the same codes in
the same run. What counts is the CPU time of the process, on one thread.
"""

from __future__ import annotations

import argparse
import importlib
import io
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiogen_cli.data import audio
from audiogen_cli.hub import codecs
from audiogen_cli.models.entropy import EntropyLM
from audiogen_cli.pipelines import entropy
from audiogen_cli.pipelines.compress import code_bits
from audiogen_cli.pipelines.rate_distortion import choose

THEIR_NAMES = {"heads.": "linears.", "layers.": "transformer.layers.", "norm_in.": "transformer.norm_in."}


def theirs(lm: EntropyLM) -> Any:
    """The package's model with our weights. It imports torchaudio, which it does not need for this."""
    sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    sizes = {"num_layers": lm.config.num_layers, "num_heads": lm.config.num_heads}
    model = importlib.import_module("encodec.model").LMModel(
        lm.config.num_codebooks, lm.config.codebook_size, lm.config.dim, **sizes, past_context=lm.config.past_context
    )
    state = {}
    for name, tensor in lm.state_dict().items():
        for ours, foreign in THEIR_NAMES.items():
            name = foreign + name.removeprefix(ours) if name.startswith(ours) else name
        state[name] = tensor
    model.load_state_dict(state)
    return model.eval()


def written(model: entropy.EntropyModel, codes: np.ndarray) -> bytes:
    """codes [K, T]."""
    file = io.BytesIO()
    writer = entropy.EntropyWriter(file, model)
    writer.write(codes)
    writer.finish()
    return file.getvalue()


def read(model: entropy.EntropyModel, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    return entropy.EntropyReader(io.BytesIO(data), model, shape[0]).read(shape[1])


def their_bytes(model: Any, codes: np.ndarray) -> bytes:
    """As the package's compress_to_file does it."""
    coding = importlib.import_module("encodec.quantization.ac")
    file, states, offset = io.BytesIO(), None, 0
    coder = coding.ArithmeticCoder(file)
    previous = torch.zeros(1, len(codes), 1, dtype=torch.int64)
    for frame in codes.T:
        found, states, offset = model(previous, states, offset)
        previous = 1 + torch.from_numpy(frame)[None, :, None]
        for k, value in enumerate(frame.tolist()):
            cdf = coding.build_stable_quantized_cdf(found[0, :, k, 0], coder.total_range_bits, check=False)
            coder.push(value, cdf)
    coder.flush()
    return file.getvalue()


def their_codes(model: Any, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    coding = importlib.import_module("encodec.quantization.ac")
    states, offset = None, 0
    decoder = coding.ArithmeticDecoder(io.BytesIO(data))
    previous, frames = torch.zeros(1, shape[0], 1, dtype=torch.int64), []
    for _ in range(shape[1]):
        found, states, offset = model(previous, states, offset)
        cdfs = [
            coding.build_stable_quantized_cdf(found[0, :, k, 0], decoder.total_range_bits, check=False)
            for k in range(shape[0])
        ]
        frames.append([decoder.pull(cdf) for cdf in cdfs])
        previous = 1 + torch.tensor(frames[-1])[None, :, None]
    return np.array(frames).T


def timed(run: Callable[[], Any], seconds: float) -> tuple[Any, str]:
    """What it gives, and how many times real time it took."""
    start = time.process_time()
    result = run()
    return result, f"{seconds / (time.process_time() - start):.1f}"


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", default="")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--model", default="codec-small")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    named = codecs.load(arguments.model)
    codec, lm = named.codec, codecs.load_entropy_lm(named)
    exact = entropy.exact(lm)
    paths = choose(arguments.folder, arguments.clips, 2.0, 10.0, arguments.source)
    clips = [codec.encode(audio.read(path, codec.sample_rate, codec.channels).waveform[None])[0] for path in paths]
    codes = [clip.numpy() for clip in clips]
    frames = sum(clip.shape[1] for clip in codes)
    seconds = frames / codec.frame_rate
    sys.stdout.write(f"{len(codes)} recordings, {seconds:.0f} s; kbps packed, entropy-coded\n")
    for share in (1, 2, 4, 7):
        count = codec.num_codebooks * share // 7
        plain = count * code_bits(codec) * codec.frame_rate / 1000
        coded = 8 * sum(len(written(exact, clip[:count])) for clip in codes) / seconds / 1000
        sys.stdout.write(f"  {count:2} codebooks {plain:6.2f} {coded:6.2f}  saved {100 * (1 - coded / plain):.1f} %\n")
        sys.stdout.flush()
    stream = np.concatenate(codes, axis=1)[:, : round(20 * codec.frame_rate)]
    long, other = stream.shape[1] / codec.frame_rate, theirs(lm)
    data, writing = timed(lambda: written(exact, stream), long)
    back, reading = timed(lambda: read(exact, data, stream.shape), long)
    assert np.array_equal(back, stream)
    foreign, their_writing = timed(lambda: their_bytes(other, stream), long)
    their_back, their_reading = timed(lambda: their_codes(other, foreign, stream.shape), long)
    assert np.array_equal(their_back, stream)
    sys.stdout.write(f"{long:.0f} s of {len(stream)} codebooks; times real time: encode, decode; bytes\n")
    sys.stdout.write(f"  ours    {writing:>6} {reading:>6} {len(data):>7}\n")
    sys.stdout.write(f"  encodec {their_writing:>6} {their_reading:>6} {len(foreign):>7}\n")


if __name__ == "__main__":
    main()
