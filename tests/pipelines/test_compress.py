"""Sound to .ecdc and back: faithful, whatever the blocks; both ways with the `encodec` package, its own two shapes."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import io
import math
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from audiogen_cli.data import audio
from audiogen_cli.errors import AudiolmError, InputError, ModelError
from audiogen_cli.formats import ecdc
from audiogen_cli.hub import codecs
from audiogen_cli.hub.codecs import NamedCodec
from audiogen_cli.models.decoding import finish
from audiogen_cli.models.encodec import ENCODEC_24KHZ, ENCODEC_48KHZ, Encodec, EncodecConfig
from audiogen_cli.models.entropy import EntropyLM, EntropyLMConfig
from audiogen_cli.pipelines import compress as pipeline
from audiogen_cli.pipelines import entropy
from audiogen_cli.pipelines.entropy import EntropyModel

SMALL: dict[str, Any] = {"dimension": 6, "num_filters": 4, "ratios": (3, 2), "lstm_layers": 1, "codebook_size": 16}
PLAIN = EncodecConfig(sample_rate=600, num_codebooks=3, **SMALL)
SEGMENTED = dataclasses.replace(ENCODEC_48KHZ, sample_rate=600, num_codebooks=3, overlap=0.1, **SMALL)


def noise(length: int, channels: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(channels, length, generator=torch.Generator().manual_seed(seed)) * 0.2


def tiny(config: EncodecConfig, name: str = "tiny") -> NamedCodec:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        codec = Encodec(config).eval()
        for stage in codec.quantizer.stages:
            stage.embed.normal_(std=0.3)
    return NamedCodec(name, codec, Path())


def tiny_lm(codec: NamedCodec, scale: float = 1.0) -> EntropyLM:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        sizes = {"codebook_size": 16, "dim": 16, "num_layers": 2, "num_heads": 2, "past_context": 9}
        lm = EntropyLM(EntropyLMConfig(num_codebooks=codec.codec.num_codebooks, **sizes)).eval()
        for head in lm.heads:
            head.weight.data.normal_(std=scale)
    return lm


def wav(path: Path, waveform: Tensor, rate: int) -> Path:
    audio.write(path, waveform, rate, "float", force=True)
    return path


def packed(codec: NamedCodec, source: Path, lm: EntropyModel | None = None, codebooks: int | None = None) -> bytes:
    sink = io.BytesIO()
    finish(pipeline.compress(codec, source, sink, codebooks or codec.codec.num_codebooks, lm))
    return sink.getvalue()


def unpacked(
    codec: NamedCodec, data: bytes, lm: EntropyModel | None = None, restore: bool = True
) -> tuple[Tensor, int]:
    source, sink = io.BytesIO(data), io.BytesIO()
    header = ecdc.read_header(source)
    pipeline.check_codec(header, codec)
    finish(pipeline.decompress(header, source, sink, codec.codec, lm, restore, "float"))
    (path := Path("unpacked.wav")).write_bytes(sink.getvalue())
    return tuple(audio.read(path))  # type: ignore[return-value]


def test_a_wider_search_makes_other_codes_for_the_same_decoder() -> None:
    codec, source = tiny(PLAIN), wav(Path("sound.wav"), noise(1200), 600)
    plain = packed(codec, source)
    pipeline.search(codec.codec, 8)
    searched = packed(codec, source)
    assert searched != plain
    assert len(searched) == len(plain)
    assert unpacked(tiny(PLAIN), searched)[0].shape == (1, 1200)
    pipeline.search(codec.codec, 1)
    assert packed(codec, source) == plain


def test_a_codec_without_residual_quantization_is_not_searched() -> None:
    with pytest.raises(InputError, match="leave --search out"):
        pipeline.search(torch.nn.Identity(), 4)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# ---- our own codecs


@pytest.mark.parametrize("config", [PLAIN, SEGMENTED], ids=["whole", "segmented"])
@pytest.mark.parametrize("length", [1, 5, 6, 599, 601, 1234, 3333])
@pytest.mark.parametrize("with_lm", [False, True])
def test_what_comes_back_is_what_the_codec_says(config: EncodecConfig, length: int, with_lm: bool) -> None:
    codec = tiny(config)
    lm = entropy.exact(tiny_lm(codec)) if with_lm else None
    waveform = noise(length, config.channels)
    found, rate = unpacked(codec, packed(codec, wav(Path("a.wav"), waveform, 600), lm), lm)
    expected = whole(codec.codec, waveform)
    assert rate == 600 and found.shape == waveform.shape
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def whole(codec: Any, waveform: Tensor) -> Tensor:
    """The slow way: segments in a list, a triangle over each, in one go."""
    length, config = waveform.shape[1], codec.config
    size, stride = config.segment_length or length, config.segment_stride or length
    with torch.no_grad():
        pieces = [waveform[None, :, start : start + size] for start in range(0, length, stride)]
        decoded = [codec.decode_scaled(codec.encode_scaled(piece))[0] for piece in pieces]
    total, weights = torch.zeros(config.channels, 2 * (length + size + 9)), torch.zeros(2 * (length + size + 9))
    ramp = torch.arange(1, decoded[0].shape[1] + 1)
    triangle = torch.minimum(ramp, ramp.flip(0)).float()
    for start, piece in zip(range(0, length, stride), decoded, strict=True):
        count = piece.shape[1]
        total[:, start : start + count] += piece * triangle[:count]
        weights[start : start + count] += triangle[:count]
    return (total / weights.clamp_min(1e-9))[:, :length]


@pytest.mark.parametrize(("rate", "channels"), [(600, 2), (441, 1), (1600, 3)])
def test_rate_channels_and_length_come_back_if_wanted(rate: int, channels: int) -> None:
    codec = tiny(PLAIN)
    data = packed(codec, wav(Path("a.wav"), noise(2_001, channels), rate))
    assert unpacked(codec, data)[0].shape == (channels, 2_001) and unpacked(codec, data)[1] == rate
    decoded, own_rate = unpacked(codec, data, restore=False)
    assert own_rate == 600 and decoded.shape == (1, round(2_001 * 600 / rate))


def test_blocks_and_files_on_disk_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, path = tiny(PLAIN), wav(Path("a.wav"), noise(5_000), 441)
    lm = entropy.exact(tiny_lm(codec))
    before = packed(codec, path, lm)
    monkeypatch.setattr("audiogen_cli.data.blocks.BLOCK", 700)
    monkeypatch.setattr("audiogen_cli.models.streaming.FRAMES_PER_STEP", 50)
    monkeypatch.setattr(pipeline, "_SPOOL", 10)
    assert packed(codec, path, lm) == before


def test_a_model_that_knows_nothing_costs_nothing() -> None:
    codec, path = tiny(PLAIN), wav(Path("a.wav"), noise(3_000), 600)
    plain, flat = (len(packed(codec, path, lm)) for lm in (None, entropy.exact(tiny_lm(codec, 0.0))))
    assert abs(flat - plain) < 0.01 * plain + 5


def test_a_header_says_where_a_stream_comes_from() -> None:
    codec = tiny(PLAIN)
    data = packed(codec, wav(Path("a.wav"), noise(882, 2), 441), codebooks=2)
    header = ecdc.read_header(io.BytesIO(data))
    assert header == ecdc.Header(
        "tiny", 1200, 2, False, "encodec", codec.codec.fingerprint(), 441, 2, 882, header.checksum
    )
    assert len(data) < 300 + 200 * 2 * 4 / 8


def test_another_codec_is_told_from_the_right_one() -> None:
    codec = tiny(PLAIN)
    header = ecdc.read_header(io.BytesIO(packed(codec, wav(Path("a.wav"), noise(600), 600))))
    other = tiny(PLAIN)
    other.codec.quantizer.stages[0].embed.add_(1)
    with pytest.raises(ModelError, match="name the right one with --model"):
        pipeline.check_codec(header, other)
    foreign = dataclasses.replace(header, fingerprint=None)
    pipeline.check_codec(foreign, other)
    with pytest.raises(ModelError, match="compressed with tiny, and not with other"):
        pipeline.check_codec(foreign, other._replace(name="other"))
    with pytest.raises(InputError, match="claims 4 codebooks"):
        pipeline.check_codec(dataclasses.replace(header, codebooks=4), codec)


@pytest.mark.parametrize(
    ("kbps", "codebooks"), [(None, 8), (1.5, 2), (3.0, 4), (6.0, 8), (5.9, 7), (24.0, 32), (0.75, 1)]
)
def test_a_rate_is_so_many_codebooks(kbps: float | None, codebooks: int) -> None:
    with torch.device("meta"):
        codec = Encodec(ENCODEC_24KHZ)
    assert pipeline.codebooks_for(codec, kbps) == codebooks


def test_rates_that_a_codec_cannot_make_are_refused() -> None:
    codec = tiny(PLAIN).codec  # 100 Hz, 4 bits, 3 codebooks: 0.4 to 1.2 kbps
    assert pipeline.codebooks_for(codec, None) == 3
    for kbps in (0.3, 1.3, 24.0):
        with pytest.raises(InputError, match=r"ask for 0.4 to 1.2 with --kbps"):
            pipeline.codebooks_for(codec, kbps)


# ---- damage


def mutants(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Bits flipped, bytes changed, cut off, left out, doubled, or a number in the header made another."""
    random = np.random.default_rng(seed)
    header_end = 9 + int.from_bytes(data[5:9], "big")
    for _ in range(count):
        found = bytearray(data)
        for _ in range(int(random.integers(1, 4))):
            where = int(random.integers(len(found) if random.random() < 0.5 else min(header_end, len(found)) or 1))
            how = random.integers(6)
            if how == 0:
                found[where] ^= 1 << int(random.integers(8))
            elif how == 1:
                found[where] = int(random.integers(256))
            elif how == 2:
                del found[where:]
            elif how == 3:
                del found[where : where + int(random.integers(1, 9))]
            elif how == 4:
                found[where:where] = found[where : where + int(random.integers(1, 99))]
            else:
                digits = [i for i, byte in enumerate(found[:header_end]) if chr(byte).isdigit()]
                if digits:
                    found[int(random.choice(digits))] = ord(str(int(random.integers(10))))
            if not found:
                break
        yield bytes(found)


class Bounded(io.BytesIO):
    """A sink that minds how much is written to it."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def write(self, data: Any) -> int:
        assert self.tell() + len(data) <= self.limit, "more sound than the file has codes for"
        return super().write(data)


def survives(codec: NamedCodec, data: bytes, lm: EntropyModel | None, original: bytes) -> bool:
    """Whether a mutant decodes, and then as the original does; anything but a clean error fails."""
    source = io.BytesIO(data)
    sink = Bounded(10_000 + 6_000 * len(data))  # no code stands for more than 6 samples, at most 16 times as many out
    try:
        header = ecdc.read_header(source)
        pipeline.check_codec(header, codec)
        finish(pipeline.decompress(header, source, sink, codec.codec, lm if header.lm else None))
    except AudiolmError as error:
        assert str(error).endswith(".") and "\n" not in str(error)
        return False
    assert header.checksum is None or sink.getvalue() == original
    return True


@pytest.mark.parametrize("config", [PLAIN, SEGMENTED], ids=["whole", "segmented"])
@pytest.mark.parametrize("with_lm", [False, True])
def test_a_damaged_stream_is_an_error_or_what_it_was(config: EncodecConfig, with_lm: bool) -> None:
    codec = tiny(config)
    lm = entropy.exact(tiny_lm(codec)) if with_lm else None
    data = packed(codec, wav(Path("a.wav"), noise(700, config.channels), 600), lm)
    source, sink = io.BytesIO(data), io.BytesIO()
    finish(pipeline.decompress(ecdc.read_header(source), source, sink, codec.codec, lm))
    survived = sum(survives(codec, mutant, lm, sink.getvalue()) for mutant in mutants(data, 60, seed=0))
    assert survived < 20


def test_a_stream_whose_probabilities_come_out_differently_is_reported() -> None:
    codec = tiny(PLAIN)
    data = packed(codec, wav(Path("a.wav"), noise(2_000), 600), entropy.exact(tiny_lm(codec)))
    other = tiny_lm(codec)
    other.heads[0].bias.data[3] += 0.01
    with pytest.raises(InputError, match=r"not those that were written|damaged|cut off"):
        unpacked(codec, data, entropy.exact(other))


# ---- the encodec package


LENGTHS = {"encodec_24khz": (6_720, 11_111), "encodec_48khz": (47_520 + 200, 48_000 + 7)}
SHAPES = {"encodec_24khz": ENCODEC_24KHZ, "encodec_48khz": ENCODEC_48KHZ}


class Pair:
    """The package's model of random weights, its file as ours, and both with their entropy model."""

    def __init__(self, name: str, folder: Path, package: Any) -> None:
        self.config = SHAPES[name]
        rate, channels = self.config.sample_rate, self.config.channels
        most, window = [1.5, 24.0] if rate == 24_000 else [3.0, 24.0], None if rate == 24_000 else 1.0
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.theirs = package.model.EncodecModel._get_model(
                most, rate, channels, self.config.causal, self.config.norm, self.config.normalize, window, name
            ).eval()
            for layer in self.theirs.quantizer.vq.layers:
                layer._codebook.embed.normal_(std=0.1)
                layer._codebook.inited.fill_(1)
            context = int(3.5 * self.theirs.frame_rate)
            count = self.theirs.quantizer.n_q
            lm = package.model.LMModel(count, 1024, num_layers=5, dim=200, past_context=context).eval()
        self.theirs.set_target_bandwidth(most[0])
        self.theirs.get_lm_model = lambda: lm
        file = named(folder, name, self.theirs.state_dict())
        named(folder, name.replace("encodec_", "encodec_lm_"), lm.state_dict())
        self.ours = codecs.load(str(file))
        self.lm = entropy.as_published(codecs.load_entropy_lm(self.ours))


def named(folder: Path, name: str, state: dict[str, Tensor]) -> Path:
    torch.save(state, folder / "x")
    digest = hashlib.sha256((folder / "x").read_bytes()).hexdigest()[:8]
    return (folder / "x").rename(folder / f"{name}-{digest}.th")


@pytest.fixture(scope="module")
def package() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torchaudio", types.ModuleType("torchaudio"))
        pytest.importorskip("encodec", reason="pip install --no-deps encodec einops")
        model, compress = (importlib.import_module(f"encodec.{name}") for name in ("model", "compress"))
        patch.setattr(compress, "MODELS", dict(compress.MODELS))
        yield types.SimpleNamespace(model=model, compress=compress)


@pytest.fixture(scope="module", params=LENGTHS)
def pair(request: pytest.FixtureRequest, package: Any, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    found = Pair(request.param, tmp_path_factory.mktemp(request.param), package)
    package.compress.MODELS[request.param] = lambda: found.theirs
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("with_lm", [False, True], ids=["packed", "lm"])
def test_the_package_reads_what_we_write(pair: Pair, package: Any, with_lm: bool) -> None:
    """Also of lengths at which its release cannot read its own files."""
    lm = pair.lm if with_lm else None
    for length in LENGTHS[pair.ours.name]:
        path = wav(Path("a.wav"), noise(length, pair.config.channels), pair.config.sample_rate)
        data = packed(pair.ours, path, lm, codebooks=2)
        theirs, rate = package.compress.decompress(data)
        ours, _ = unpacked(pair.ours, data, lm)
        assert rate == pair.config.sample_rate and ours.shape == (pair.config.channels, length)
        assert theirs.shape[1] >= length
        torch.testing.assert_close(ours, theirs[:, :length], atol=1e-4, rtol=1e-3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("with_lm", [False, True], ids=["packed", "lm"])
def test_we_read_what_the_package_writes(pair: Pair, package: Any, with_lm: bool) -> None:
    """Also what its release cannot read back itself."""
    for length in LENGTHS[pair.ours.name]:
        waveform = noise(length, pair.config.channels)
        data = package.compress.compress(pair.theirs, waveform, use_lm=with_lm)
        ours, rate = unpacked(pair.ours, data, pair.lm if with_lm else None)
        with torch.no_grad():
            frames = pair.theirs.encode(waveform[None])
        if length % 47_520 != 200:
            expected = pair.theirs.decode(frames)[0, :, :length].detach()
            torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-3)
        assert rate == pair.config.sample_rate and ours.shape == waveform.shape


def test_a_frame_count_trap_is_stepped_over_and_nothing_else() -> None:
    """The counts of encodec 0.1.1's decoder, over ten minutes at 24 kHz: one exact multiple of 320 in twenty."""
    rate, hop, frame_rate = 24_000, 320, 75
    bad = {n for n in range(hop, 600 * rate, hop) if math.ceil(n / rate * frame_rate) != n // hop}
    assert len(bad) == 2248 and {6720, 13440, 16320, 53760} <= bad
    for length in [*sorted(bad)[:50], 1, 319, 320, 321, 24_000]:
        assert pipeline.readable_length(ENCODEC_24KHZ, length) == length + (length in bad)


@pytest.mark.parametrize("length", [1, 200, 47_520, 47_521, 47_680, 47_681, 47_840, 47_841, 48_000, 95_040 + 300])
def test_at_48_khz_the_last_segment_reaches_as_far_as_the_one_before(length: int) -> None:
    found = pipeline.readable_length(ENCODEC_48KHZ, length)
    reach = length % 47_520
    assert found - length == (321 - reach if length > 47_520 and 160 < reach < 321 else 0)
