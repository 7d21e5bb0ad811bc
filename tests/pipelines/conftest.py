"""What the evaluation's tests share: a tagger that hears whatever the test says, and a model that gives it to hear."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from audiogen_cli.models.codec import Codec
from audiogen_cli.models.decoding import Sampling
from audiogen_cli.pipelines import listening
from audiogen_cli.pipelines.generate import Progress
from audiogen_cli.pipelines.listening import Prompt, Recording, Setup, Take

RATE = 16_000


class Oracle:
    """A tagger whose classes are Dog, Bark, Rain, Tick and nine others that always score 0.4.

    Which of the first four is heard depends on which of four interleaved phases holds the energy.
    """

    labels = ("Dog", "Bark", "Rain", "Tick", *(f"other {i}" for i in range(9)))
    hash = "1"

    def indices(self, names: tuple[str, ...]) -> Tensor:
        return torch.tensor([self.labels.index(name) for name in names])

    def scores(self, waveform: Tensor) -> Tensor:
        return self.window_scores(waveform).mean(dim=0)

    def window_scores(self, waveform: Tensor) -> Tensor:
        return torch.cat([self.embeddings(waveform), torch.full((1, 9), 0.4)], dim=1)

    def embeddings(self, waveform: Tensor) -> Tensor:
        energy = waveform[: len(waveform) // 4 * 4].reshape(-1, 4).square().sum(dim=0)
        return (energy / energy.sum().clamp_min(1e-9))[None]


class NoCodec(Codec):
    """Rounds samples to 256 values: one code for each."""

    sample_rate, channels, hop_length, num_codebooks, codebook_size = RATE, 1, 1, 1, 256

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def encode(self, waveform: Tensor, num_codebooks: int | None = None) -> Tensor:
        return (waveform.clamp(-1, 1) * 127 + 128).round().long()

    def decode(self, codes: Tensor) -> Tensor:
        return (codes - 128) / 127


@pytest.fixture
def sounding() -> Callable[..., Tensor]:
    """Makes [N] that the oracle hears as its first four classes, in the shares given."""

    def make(*energies: float, seconds: float = 1.0) -> Tensor:
        return 0.5 * torch.tensor(energies).sqrt().repeat(round(RATE / 4 * seconds))

    return make


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, sounding: Callable[..., Tensor]) -> Setup:
    """Answers a text with the class that it names, "dog" for one, and with two halves where it names two."""
    names = ("dog", "puppy", "rain", "clock")

    def generate(model, prompts, seconds, seeds, *args, **kwargs):  # type: ignore[no-untyped-def]
        yield Progress(1, 1, len(seeds))
        heard = [[float(name in text) for name in names] for text in prompts]
        return [sounding(*energies, seconds=seconds)[None] for energies in heard]

    monkeypatch.setattr(listening, "generate", generate)
    codec = NoCodec()
    about = {"name": "tiny", "hash": "0", "sample_rate": RATE, "card": SimpleNamespace(candidates=1)}
    parts = {"codec": codec, "frames": codec.encode, "sound": codec.decode, "sampling": Sampling()}
    model = SimpleNamespace(**about, **parts, heard=lambda text: text.replace("whelp", "puppy"))
    return Setup(model, Oracle(), num_seeds=2, seconds=1.0, sampling=Sampling())  # type: ignore[arg-type]


@pytest.fixture
def prompts() -> list[Prompt]:
    """dog and puppy share a class."""
    classes = {"dog": ("Dog", "Bark"), "rain": ("Rain",), "puppy": ("Bark",), "clock": ("Tick",)}
    return [Prompt(text, names, re.compile(text)) for text, names in classes.items()]


@pytest.fixture
def take(asked: Setup) -> Callable[..., Take]:
    """Makes what Setup.take makes, without a file."""

    def make(caption: str, waveform: Tensor, held_out: bool = True, name: str = "") -> Take:
        recording = Recording(Path(f"{name or caption}.wav"), caption, held_out)
        example = listening.placed(waveform, recording, asked.seconds)
        return Take(recording, waveform, example, *(asked.coded(example) if held_out else ()))

    return make
