"""Training a VALL-E (2301.02111, section 4) on utterances with their texts, both of its networks at once.

utterance --symbols--> text [B, L]
          --codec----> codes [B, K, T] -> the first codebook, to its end;  codebook k of what follows a voice

An utterance is never cut, for nobody knows which part of its text is then said. Often two of one source, which is one
speaker, are joined: at use a voice's recording with its transcript stands before what is to be said. For the other
codebooks a voice is the utterance's own beginning (its text is then part of the text), or any stretch of it put before
the whole (it is not); its length is drawn from a quarter to half of the utterance.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from audiogen_cli.conditioners.symbols import Kind, Symbols
from audiogen_cli.data import audio, image
from audiogen_cli.data.manifest import Clip
from audiogen_cli.errors import InputError
from audiogen_cli.hub import checkpoint
from audiogen_cli.hub.card import ModelCard, SamplingDefaults
from audiogen_cli.models.audiolm import stage_loss
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.decoding import Sampling, finish
from audiogen_cli.models.valle import Frames, Pace, VallE, VallEConfig, valle_loss
from audiogen_cli.models.valle_decoding import Utterance, speak
from audiogen_cli.ops.ids import padded, trimmed
from audiogen_cli.training.loop import ExponentialAverage, LoopConfig, adamw
from audiogen_cli.training.stage_data import VALIDATION_SOUNDS

SAMPLING = SamplingDefaults(temperature=1.0, top_k=0, top_p=0.9, guidance=1.0)


@dataclass(frozen=True)
class VallESettings:
    """What a recipe says of the model; the rest follows from the codec and the recordings.

    text: what its texts are written in. num_codebooks: how many of the codec's are made; None is all. joined: the share
    of examples that are two utterances of one source; with 0 no recording stands before a text, and samples are said in
    no given voice. voiced: the share of examples in which the other codebooks have a voice before them. shifts: at how
    many places within a frame an utterance may begin; its codes are others at each, which makes more of little speech.
    codec_vectors: see VallE.begin_with. samples: how many held-out texts each evaluation says.
    """

    dim: int = 256
    num_layers: int = 6
    num_heads: int = 4
    kv_heads: int | None = None
    dropout: float = 0.1
    text: Kind = "bytes"
    num_codebooks: int | None = None
    window_seconds: float = 20.0
    prompt_seconds: float = 3.0
    joined: float = 0.5
    voiced: float = 0.9
    shifts: int = 1
    codec_vectors: bool = True
    samples: int = 2


@dataclass(frozen=True)
class VallERecipe:
    """`weight_decay` acts on matrices."""

    model: VallESettings = field(default_factory=VallESettings)
    loop: LoopConfig = field(default_factory=LoopConfig)
    weight_decay: float = 0.01


class Spoken(NamedTuple):
    """An utterance: symbols [L] and codes [K, T]."""

    text: Tensor
    codes: Tensor


class Batch(NamedTuple):
    """text: [B, L]; first: [B, T], codes of the first codebook; frames: what the other network learns from."""

    text: Tensor
    first: Tensor
    frames: Frames


class Chosen(NamedTuple):
    """Some recordings of a source of training/stage_data.py (FolderSounds, TokenSounds), by number."""

    sounds: Any
    numbers: Sequence[int]

    @property
    def clips(self) -> list[Clip]:
        return [self.sounds.clips[number] for number in self.numbers]


class Utterances:
    """Recordings with their texts, in the model's symbols and codebooks."""

    def __init__(self, chosen: Chosen, symbols: Symbols, num_codebooks: int, shifts: int = 1) -> None:
        self.chosen, self.symbols, self.num_codebooks, self.shifts = chosen, symbols, num_codebooks, shifts
        self.clips = chosen.clips
        self._of_source: dict[str, list[int]] = {}
        for index, clip in enumerate(self.clips):
            self._of_source.setdefault(clip.source, []).append(index)

    def __len__(self) -> int:
        return len(self.clips)

    def __call__(self, index: int, rng: np.random.Generator | None = None) -> Spoken:
        """From a random one of the places that it may begin at; without `rng` from the first."""
        codes = self._sound(index, rng).codes[: self.num_codebooks]
        return Spoken(self.symbols(self.clips[index].caption), codes)

    def _sound(self, index: int, rng: np.random.Generator | None) -> Any:
        number = self.chosen.numbers[index]
        if rng is None or self.shifts == 1:
            return self.chosen.sounds(number)
        return self.chosen.sounds(number, float(rng.integers(self.shifts)) / self.shifts)

    def joined(self, index: int, other: int, rng: np.random.Generator | None = None) -> Spoken:
        """Both, one after the other."""
        first, second = self(index, rng), self(other, rng)
        return Spoken(self.symbols.joined(first.text, second.text), torch.cat([first.codes, second.codes], dim=1))

    def companion(self, index: int, seconds: float, rng: np.random.Generator) -> int | None:
        """Another utterance of the same source, if one that was drawn lasts no longer than `seconds`."""
        same = self._of_source[self.clips[index].source]
        other = same[int(rng.integers(len(same)))]
        return other if other != index and self.clips[other].seconds <= seconds else None


def usable(clips: Sequence[Clip], window_seconds: float) -> list[int]:
    """The numbers of clips that have a text and fit into the window. Raises InputError when there are none."""
    found = [i for i, clip in enumerate(clips) if clip.caption.strip() and clip.seconds <= window_seconds]
    if not found:
        raise InputError(
            f"no recording has a transcript and lasts {window_seconds:g} s at most; "
            "see `audiolm prepare --captions`, or raise window_seconds."
        )
    return found


def divided(train: Any, valid: Any, window_seconds: float) -> tuple[Chosen, Chosen]:
    """What to learn from and what is held out, of the sounds of the two splits. Raises InputError for nothing."""
    known = usable(train.clips, window_seconds)
    if valid.clips:
        return Chosen(train, known), Chosen(valid, usable(valid.clips, window_seconds))
    kept, held = set_aside(known)
    return Chosen(train, kept), Chosen(train, held)


def set_aside(numbers: Sequence[int]) -> tuple[list[int], list[int]]:
    """For recordings without a validation split: all but every twentieth, and those."""
    held = list(numbers[::20])[:VALIDATION_SOUNDS] if len(numbers) > 1 else list(numbers)
    return [number for number in numbers if number not in held] or held, held


def pace(clips: Sequence[Clip], symbols: Symbols, frame_rate: float) -> Pace:
    """How long each symbol lasts in these recordings, and how quickly they are spoken; one in a hundred at either end
    is not believed."""
    texts = [symbols(clip.caption) for clip in clips]
    frames = np.array([clip.seconds * frame_rate for clip in clips])
    counts = np.stack([np.bincount(text.numpy(), minlength=symbols.size) for text in texts])
    each = _relative_lengths(counts, frames)
    paces = frames / (counts @ each)
    quickest, usual, slowest = np.quantile(paces, (0.01, 0.5, 0.99), method="nearest")
    return Pace(float(quickest), float(usual), float(slowest), tuple(each.tolist()))


def _relative_lengths(counts: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """How often every symbol is in each text, [N, V], and how long that text lasts, [N] -> how many times as long as
    the mean one each symbol lasts, [V]: by least squares, drawn to the mean as much as by ten texts with one of it."""
    mean = frames.sum() / counts.sum()
    normal = counts.T @ counts + 10.0 * np.eye(counts.shape[1])
    found = 1 + np.linalg.solve(normal, counts.T @ (frames - counts.sum(axis=1) * mean)) / mean
    return found.clip(0.1, 10.0).round(3)


def configured(settings: VallESettings, clips: Sequence[Clip], codec: Codec) -> VallEConfig:
    """What these recordings and this codec make of the settings. Raises InputError when it has too few codebooks."""
    symbols = Symbols.of_texts(settings.text, (clip.caption for clip in clips))
    total = codec.num_codebooks
    count = settings.num_codebooks or total
    if not 2 <= count <= total:
        raise InputError(f"the codec has {total} codebooks, of which {count} cannot be made; change num_codebooks.")
    return VallEConfig(
        num_codebooks=count,
        codebook_size=codec.codebook_size,
        dim=settings.dim,
        num_layers=settings.num_layers,
        num_heads=settings.num_heads,
        kv_heads=settings.kv_heads,
        dropout=settings.dropout,
        symbols=symbols,
        pace=pace(clips, symbols, codec.frame_rate),
        window_seconds=settings.window_seconds,
        prompt_seconds=settings.prompt_seconds,
        frame_rate=codec.frame_rate,
        codec=codec.fingerprint(),
    )


class VallETask:
    """See `audiogen_cli.training.loop.Task`. The codec stays on the CPU; `folder`, its own, goes into the model."""

    def __init__(
        self,
        model: VallE,
        recipe: VallERecipe,
        codec: Codec,
        train: Utterances,
        held_out: Utterances,
        folder: Path | None = None,
        source: dict[str, Any] | None = None,
    ) -> None:
        """Raises InputError for a model that speaks another codec's codes."""
        if model.config.codec != codec.fingerprint():
            raise InputError(
                f"the model speaks the codes of codec {model.config.codec}, and this is {codec.fingerprint()}; "
                "name its own with --codec."
            )
        self.model, self.recipe, self.codec = model, recipe, codec
        self.train, self.held_out = train, held_out
        self.folder, self.source = folder, dict(source or {})
        self.validation = [held_out(index) for index in range(min(VALIDATION_SOUNDS, len(held_out)))]
        self.average = ExponentialAverage(model, recipe.loop.ema_decay)
        self.modules: dict[str, nn.Module] = {"valle": model}
        self.extras: dict[str, Any] = {"average": self.average}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.rank = 0

    def prepare(self, accelerator: Accelerator, config: LoopConfig) -> None:
        self.accelerator, self.loop, self.rank = accelerator, config, accelerator.process_index
        optimizer = adamw(self.model, config.learning_rate, self.recipe.weight_decay)
        self.prepared, prepared_optimizer = accelerator.prepare(self.model, optimizer)
        self.average.module.to(accelerator.device)
        self.optimizers = {"valle": prepared_optimizer}

    def batch(self, step: int) -> Batch:
        """Random utterances, others on every rank, the shortest first: the parts of a batch have little padding."""
        rng = np.random.default_rng((self.loop.seed, step, self.rank))
        examples = [self._example(rng) for _ in range(self.loop.batch_size)]
        examples.sort(key=lambda example: example.codes.shape[1])
        voiced = [self._voiced(example.codes, rng) for example in examples]
        levels = rng.integers(1, self.model.config.num_codebooks, len(examples))
        return _batch(examples, voiced, levels.tolist())

    def step(self, batch: Batch, step: int) -> dict[str, Tensor | float]:
        optimizer = self.optimizers["valle"]
        optimizer.zero_grad()
        found = {"loss": 0.0, "first_loss": 0.0, "rest_loss": 0.0}
        for rows in torch.arange(len(batch.text)).chunk(self.loop.accumulate):
            share = len(rows) / len(batch.text)
            with self.accelerator.autocast():
                loss = valle_loss(self.prepared, self.model.config, *_rows(batch, rows, self.accelerator.device))
            self.accelerator.backward(loss.mean * share)
            for name, value in zip(found, loss, strict=True):
                found[name] += float(value.detach()) * share
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.loop.clip_norm)
        optimizer.step()
        self.average.update(self.model, step)
        return {**found, "gradient_norm": norm}

    @torch.no_grad()
    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """The losses on held-out utterances, the other codebooks' after a quarter of each; and a few of them said.

        valid_first_loss_other_text: of the first codebook after texts that are not said; as low as with their own, the
        text is not heard.
        """
        model: VallE = self.average.module  # type: ignore[assignment]
        size, count = self.loop.batch_size, model.config.num_codebooks
        first = rest = other = 0.0
        for start in range(0, len(self.validation), size):
            examples = self.validation[start : start + size]
            share = len(examples) / len(self.validation)
            voiced = [(example.codes, min(self._longest, example.codes.shape[1] // 4)) for example in examples]
            for level in range(1, count):
                batch = _rows(_batch(examples, voiced, [level] * len(examples)), None, self.accelerator.device)
                loss = valle_loss(model, model.config, *batch)
                rest += float(loss.rest) * share / (count - 1)
            first += float(loss.first) * share
            stranger = float(_first_loss(model, examples, self.accelerator.device))
            other += stranger * share
        said = self._write_samples(model, folder)
        losses = {"valid_loss": (first + rest) / 2, "valid_first_loss": first, "valid_rest_loss": rest}
        return {**losses, "valid_first_loss_other_text": other, **said}

    def export(self, folder: Path) -> None:
        """A whole model: both networks, a copy of the codec they were trained with, and the card."""
        checkpoint.save(folder / "valle", self.average.module, self.source)
        if self.folder is not None and not (folder / "codec").exists():
            shutil.copytree(self.folder, folder / "codec.partial", dirs_exist_ok=True)
            (folder / "codec.partial").rename(folder / "codec")
        licence = str(self.source.get("licence") or "unknown")
        card = ModelCard(folder.resolve().parent.name, "speech from text", licence, SAMPLING)
        (folder / "model.json").write_text(json.dumps(dataclasses.asdict(card), indent=2) + "\n", encoding="utf-8")

    @property
    def _longest(self) -> int:
        """Frames of the longest voice."""
        return max(1, round(self.model.config.prompt_seconds * self.model.config.frame_rate))

    def _example(self, rng: np.random.Generator) -> Spoken:
        index = int(rng.integers(len(self.train)))
        if rng.random() < self.recipe.model.joined:
            room = self.model.config.window_seconds - self.train.clips[index].seconds
            other = self.train.companion(index, room, rng)
            if other is not None:
                return self.train.joined(index, other, rng)
        return self.train(index, rng)

    def _voiced(self, codes: Tensor, rng: np.random.Generator) -> tuple[Tensor, int]:
        """The frames with a voice at their start, and how many frames that is."""
        length = min(self._longest, int(codes.shape[1] * rng.uniform(0.25, 0.5)))
        if rng.random() >= self.recipe.model.voiced:
            return codes, 0
        if rng.random() < 0.5:
            return codes, length
        start = int(rng.integers(codes.shape[1] - length + 1))
        return torch.cat([codes[:, start : start + length], codes], dim=1), length

    def _write_samples(self, model: VallE, folder: Path) -> dict[str, float]:
        """Held-out texts, in the voice of another held-out utterance where a model knows such; the share of them that
        came to their end."""
        wanted = range(1, min(1 + self.recipe.model.samples, len(self.validation)))
        if not wanted:
            return {}
        voice, ended = self.validation[0], 0
        if not self.recipe.model.joined:
            voice = Spoken(voice.text[:0], voice.codes[:, :0])
        how = Sampling(**dataclasses.asdict(SAMPLING))
        for index in wanted:
            text = self.validation[index].text
            most = model.config.limits(text)[1]
            whole = Utterance(model.config.symbols.joined(voice.text, text), voice.codes, most, seed=index)
            [made] = finish(speak(model, [whole], how))
            sound = self.codec.decode(made.codes[None])[0].clamp(-1, 1)
            audio.write(folder / f"{index}.wav", sound, self.codec.sample_rate, force=True)
            image.write_spectrogram(folder / f"{index}.png", sound, self.codec.sample_rate, force=True)
            (folder / f"{index}.txt").write_text(self.held_out.clips[index].caption + "\n", encoding="utf-8")
            ended += made.ended
        return {"samples_ended": ended / len(wanted)}


def _batch(examples: Sequence[Spoken], voiced: Sequence[tuple[Tensor, int]], levels: Sequence[int]) -> Batch:
    codebooks = zip(*(codes for codes, _ in voiced), strict=True)
    codes = torch.stack([padded(rows) for rows in codebooks], dim=1)  # [B, K, T]
    frames = Frames(codes, torch.tensor([length for _, length in voiced]), torch.tensor(levels))
    return Batch(
        padded([example.text for example in examples]), padded([example.codes[0] for example in examples]), frames
    )


def _first_loss(model: VallE, examples: Sequence[Spoken], device: torch.device) -> Tensor:
    """Of the first codebook, in nats per code, when everybody has the text of the one before."""
    text = padded([examples[number - 1].text for number in range(len(examples))]).to(device)
    first = padded([example.codes[0] for example in examples]).to(device)
    ends = torch.ones(len(text), dtype=torch.bool, device=device)
    config = model.config.first()
    return stage_loss(lambda blocks, *_: model.first(blocks), config, [text, first], ends, training=False).mean


def _rows(batch: Batch, rows: Tensor | None, device: torch.device) -> Batch:
    """Some rows of a batch, or all, on the device, no longer than the longest of them."""
    rows = torch.arange(len(batch.text)) if rows is None else rows
    codes, prompt, level = batch.frames
    frames = Frames(trimmed(codes[rows]).to(device), prompt[rows].to(device), level[rows].to(device))
    return Batch(trimmed(batch.text[rows]).to(device), trimmed(batch.first[rows]).to(device), frames)
