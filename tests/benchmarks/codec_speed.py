"""EnCodec's shapes at speed: python tests/benchmarks/codec_speed.py [SECONDS] [REPEATS]

Ours, the `encodec` package and transformers code the same sound with the same random weights on one thread, in turns.
Then ours and the package compress and decompress with the same entropy model: ours as published (the same bits, frame
by frame) and exactly (our own streams, whose bits are the same on any machine).

Prints times real time (min, median, max) and how many times faster ours was in the turns. What counts is the CPU time
of the process, so that a crowded machine spoils little but the caches; the ratios are what to read.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import re
import statistics
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from audiogen_cli.formats.ecdc import read_header
from audiogen_cli.hub import codecs
from audiogen_cli.models.decoding import finish
from audiogen_cli.models.encodec import EncodecConfig
from audiogen_cli.models.segments import Segment, decode_segments, encode_segments
from audiogen_cli.pipelines import compress as pipeline
from audiogen_cli.pipelines import entropy

TWIN = Path(__file__).parents[1] / "pipelines" / "test_compress.py"
KBPS = 6.0
TRANSFORMERS_NAMES = (
    (r"^(encoder|decoder)\.model\.", r"\1.layers."),
    (r"\.(conv|convtr)\.\1\.", ".conv."),
    (r"\.(conv|convtr)\.norm\.", ".norm."),
    (r"^quantizer\.vq\.layers\.(\d+)\._codebook\.", r"quantizer.layers.\1.codebook."),
)


def in_transformers(config: EncodecConfig, state: dict[str, torch.Tensor]) -> Any:
    """The package's weights in transformers' model."""
    model = transformers.EncodecModel(
        transformers.EncodecConfig(
            target_bandwidths=[KBPS],
            sampling_rate=config.sample_rate,
            audio_channels=config.channels,
            normalize=config.normalize,
            chunk_length_s=config.segment_seconds,
            overlap=config.overlap if config.segment_seconds else None,
            hidden_size=config.dimension,
            num_filters=config.num_filters,
            upsampling_ratios=list(config.ratios),
            norm_type=config.norm,
            use_causal_conv=config.causal,
            codebook_size=config.codebook_size,
            use_conv_shortcut=not config.true_skip,
        )
    ).eval()
    known = len(model.quantizer.layers)
    named = {}
    for name, tensor in state.items():
        for pattern, ours in TRANSFORMERS_NAMES:
            name = re.sub(pattern, ours, name)
        if not (stage := re.match(r"quantizer\.layers\.(\d+)", name)) or int(stage[1]) < known:
            named[name] = tensor
    model.load_state_dict(named)
    return model


def in_turns(contenders: dict[str, Callable[[], Any]], seconds: float, repeats: int) -> None:
    """Prints a line for each; the first is ours, and the ratios are to it."""
    spent: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        for name, run in contenders.items():
            start = time.process_time()
            run()
            if turn:  # the first one warms up
                spent[name].append(time.process_time() - start)
    ours = next(iter(spent.values()))
    for name, found in spent.items():
        speeds = sorted(seconds / each for each in found)
        line = f"  {name:34} {speeds[0]:7.2f} {statistics.median(speeds):7.2f} {speeds[-1]:7.2f} x real time"
        if found is not ours:
            ratios = sorted(theirs / mine for mine, theirs in zip(ours, found, strict=True))
            line += f"; {next(iter(spent))} is {ratios[0]:.2f} {statistics.median(ratios):.2f} {ratios[-1]:.2f} as fast"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def codes_and_sound(pair: Any, sound: torch.Tensor, repeats: int) -> None:
    seconds = sound.shape[-1] / pair.config.sample_rate
    ours, other = pair.ours.codec, in_transformers(pair.config, pair.theirs.state_dict())
    count = pipeline.codebooks_for(ours, KBPS)
    pair.theirs.target_bandwidths.append(KBPS)
    pair.theirs.set_target_bandwidth(KBPS)

    def encode() -> list[Segment]:
        return [Segment(list(s.codes), s.scale) for s in encode_segments(ours, [sound], count)]

    segments, frames, encoded = encode(), pair.theirs.encode(sound), other.encode(sound, bandwidth=KBPS)
    assert torch.equal(torch.cat(list(segments[0].codes), -1), frames[0][0]), "not the same codec"
    sys.stdout.write(f"{pair.ours.name}, {count} codebooks, {seconds:g} s: encode\n")
    in_turns(
        {
            "ours": encode,
            "encodec": lambda: pair.theirs.encode(sound),
            "transformers": lambda: other.encode(sound, bandwidth=KBPS),
        },
        seconds,
        repeats,
    )
    sys.stdout.write(f"{pair.ours.name}: decode\n")
    in_turns(
        {
            "ours": lambda: list(decode_segments(ours, segments)),
            "encodec": lambda: pair.theirs.decode(frames),
            "transformers": lambda: other.decode(encoded.audio_codes, encoded.audio_scales),
        },
        seconds,
        repeats,
    )


def entropy_coded(pair: Any, tests: Any, package: Any, sound: torch.Tensor, repeats: int) -> None:
    seconds = sound.shape[-1] / pair.config.sample_rate
    codec, exact = pair.ours, entropy.exact(codecs.load_entropy_lm(pair.ours))
    count, path = pipeline.codebooks_for(codec.codec, KBPS), tests.wav(Path("a.wav"), sound[0], codec.codec.sample_rate)

    def unpack(data: bytes, lm: entropy.EntropyModel) -> None:
        source = io.BytesIO(data)
        finish(pipeline.decompress(read_header(source), source, io.BytesIO(), codec.codec, lm))

    published, own = (tests.packed(codec, path, lm, codebooks=count) for lm in (pair.lm, exact))
    theirs = package.compress.compress(pair.theirs, sound[0], use_lm=True)
    sys.stdout.write(f"{codec.name}, {count} codebooks, {seconds:g} s: compress with the entropy model\n")
    in_turns(
        {
            "ours as published": lambda: tests.packed(codec, path, pair.lm, codebooks=count),
            "ours exactly": lambda: tests.packed(codec, path, exact, codebooks=count),
            "encodec": lambda: package.compress.compress(pair.theirs, sound[0], use_lm=True),
        },
        seconds,
        repeats,
    )
    sys.stdout.write(f"{codec.name}: decompress with the entropy model\n")
    in_turns(
        {
            "ours as published": lambda: unpack(published, pair.lm),
            "ours exactly": lambda: unpack(own, exact),
            "encodec": lambda: package.compress.decompress(theirs),
        },
        seconds,
        repeats,
    )


@torch.no_grad()
def main() -> None:
    seconds, repeats = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0, int(sys.argv[2]) if len(sys.argv) > 2 else 5
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    sys.modules["torchaudio"] = types.ModuleType("torchaudio")  # the package imports it, and needs it for nothing here
    package = types.SimpleNamespace(
        model=importlib.import_module("encodec.model"), compress=importlib.import_module("encodec.compress")
    )
    spec = importlib.util.spec_from_file_location("test_compress", TWIN)
    tests = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tests)
    folder = Path(tempfile.mkdtemp())
    os.chdir(folder)
    for name in tests.SHAPES:
        (folder / name).mkdir()
        pair = tests.Pair(name, folder / name, package)
        package.compress.MODELS[name] = lambda found=pair: found.theirs
        sound = tests.noise(round(seconds * pair.config.sample_rate), pair.config.channels)[None]
        codes_and_sound(pair, sound, repeats)
        entropy_coded(pair, tests, package, sound[..., : sound.shape[-1] // 2], repeats)


if __name__ == "__main__":
    main()
