"""Training a scorer of sounds against texts by contrast (CLAP: 2206.04769, 2211.06687), on few recordings.

    Segments -> waveform -> codec, for some -> log mel --varied--> sound [B, D]   cosines [B, B]: high where the sound
             -> caption -> T5 -> mean vector ---------------------> text [B, D]    is of the caption's classes

The examples are the language model's. `pool` of them are rendered once, when first drawn; each time that one is drawn
its log mel is varied anew: stretches of time and pitch taken out (SpecAugment, 1904.08779), the timbre bent, noise put
under it. Where the papers take every other caption of a batch for a wrong one, here a caption of exactly the same
classes is as right as the sound's own, and one that shares some of its classes counts as neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from numpy.random import Generator
from torch import Tensor, nn

from audiogen_cli.conditioners.text import T5Conditioner
from audiogen_cli.data import audio
from audiogen_cli.data.segments import PLAIN, SegmentConfig, Segments
from audiogen_cli.errors import ConfigError
from audiogen_cli.hub import checkpoint
from audiogen_cli.models.clap import CLAP, CLAPConfig, mean_vector
from audiogen_cli.models.codec import Codec
from audiogen_cli.training.data import Subset, TrainingData
from audiogen_cli.training.loop import ExponentialAverage, LoopConfig, adamw

_TIMBRE_KNOTS = 6  # of the random curve over pitch
_WRONG, _RIGHT, _NEITHER = 0, 1, 2


@dataclass(frozen=True)
class CLAPTrainingConfig:
    """pool: how many examples there are. coded: the share of them that is heard through the codec, at a random number
    of codebooks from `fewest_codebooks` (those of the language model) up to all.

    The others vary a log mel: masks of time (seconds) and of pitch (a share of the bands), two of each; a gain of every
    band, drawn smoothly over pitch; noise below the loudest bin by so many dB, of a random timbre, for half of them.
    """

    pool: int = 4096
    coded: float = 0.3
    fewest_codebooks: int = 4
    weight_decay: float = 0.05
    time_mask_seconds: float = 0.6
    pitch_mask: float = 0.12
    timbre_db: float = 8.0
    noise_db: tuple[float, float] = (-70.0, -25.0)

    def __post_init__(self) -> None:
        if self.pool < 1 or self.fewest_codebooks < 1:
            raise ValueError("pool and fewest_codebooks must be 1 or more.")


@dataclass(frozen=True)
class CLAPRecipe:
    """`fitted` takes the model's `sample_rate`, `text_dim` and `text_fingerprint` from the codec and the text encoder
    in use; the other settings stand as they are."""

    model: CLAPConfig = field(default_factory=CLAPConfig)
    training: CLAPTrainingConfig = field(default_factory=CLAPTrainingConfig)
    segments: SegmentConfig = field(default_factory=SegmentConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


class Pair(NamedTuple):
    """mel: log mel [T, M]; text: [text_dim]; keys: the classes that are heard."""

    mel: Tensor
    text: Tensor
    keys: frozenset[str]


class Batch(NamedTuple):
    """mel: [B, T, M]; text: [B, text_dim]; match: int [B, B], what caption j is to sound i."""

    mel: Tensor
    text: Tensor
    match: Tensor


class Questions(NamedTuple):
    """Held-out recordings against the captions of their classes. sounds: log mels [T, M]; answers: the caption of each;
    texts: [captions, text_dim]."""

    sounds: dict[str, list[Tensor]]
    answers: Tensor
    texts: Tensor


def fitted(recipe: CLAPRecipe, text: T5Conditioner, codec: Codec | None) -> CLAPRecipe:
    """The recipe for this text encoder and codec. Raises ConfigError when the codec has too few codebooks."""
    if codec is not None and recipe.training.fewest_codebooks > codec.num_codebooks:
        raise ConfigError(
            f"fewest_codebooks asks for {recipe.training.fewest_codebooks} of {codec.num_codebooks} codebooks; lower "
            "it to what the language model has."
        )
    rate = recipe.model.sample_rate if codec is None else codec.sample_rate
    model = replace(recipe.model, sample_rate=rate, text_dim=text.dim, text_fingerprint=text.fingerprint)
    return replace(recipe, model=model, segments=replace(recipe.segments, sample_rate=rate))


class Pool:
    """Examples by number: each a function of the recipe and its number, kept once it has been made."""

    def __init__(
        self,
        recipe: CLAPRecipe,
        data: Subset,
        text: T5Conditioner,
        codec: Codec | None,
        features: Callable[[Tensor], Tensor],
    ) -> None:
        """features: of models/clap.CLAP. A codec of None codes nothing."""
        self.config, self.seed = recipe.training, recipe.loop.seed
        labels = [clip.caption for clip in data.clips]
        self.segments = Segments(data.recordings, labels, recipe.segments, self.seed)
        self.text, self.codec, self.features = text, codec, features
        self._made: dict[int, Pair] = {}

    def __len__(self) -> int:
        return self.config.pool

    def __getitem__(self, number: int) -> Pair:
        if number not in self._made:
            self._made[number] = self._make(number)
        return self._made[number]

    @torch.no_grad()
    def _make(self, number: int) -> Pair:
        example = self.segments.example(0, number)
        rng = np.random.default_rng((self.seed, number, 1))
        waveform = example.waveform
        if self.codec is not None and rng.random() < self.config.coded:
            count = int(rng.integers(self.config.fewest_codebooks, self.codec.num_codebooks + 1))
            waveform = through(self.codec, waveform, count)
        mel = self.features(waveform)[0].half()  # 16 bits: a pool of 10,000 takes 320 MB
        return Pair(mel, mean_vector(self.text([example.caption]))[0], frozenset(example.keys))


@torch.no_grad()
def through(codec: Codec, waveform: Tensor, num_codebooks: int) -> Tensor:
    """waveform [1, N] at the codec's rate -> what the codec makes of it [1, N]."""
    heard = audio.remix(waveform, codec.channels)
    decoded = codec.decode(codec.encode(heard[None], num_codebooks))[0, :, : waveform.shape[1]]
    return audio.remix(decoded, 1)


def matches(keys: Sequence[frozenset[str]]) -> Tensor:
    """int [B, B]: 1 where two examples are of the same classes, 2 where they share some, 0 where none."""

    def match(one: frozenset[str], two: frozenset[str]) -> int:
        return _RIGHT if one == two else _WRONG if one.isdisjoint(two) else _NEITHER

    return torch.tensor([[match(one, two) for two in keys] for one in keys])


def contrastive_loss(logits: Tensor, match: Tensor) -> Tensor:
    """Both ways: of a sound among captions, of a caption among sounds. logits [B, B], match as `matches`.

    The mean of -log softmax over all right answers (2004.11362, equation 2); with one each it is CLAP's own loss.
    """
    right = (match == _RIGHT).to(logits.dtype)
    known = logits.masked_fill(match == _NEITHER, torch.finfo(logits.dtype).min)
    each = [-(known.log_softmax(dim) * right).sum(dim) / right.sum(dim) for dim in (0, 1)]
    return 0.5 * (each[0].mean() + each[1].mean())


def varied(mel: Tensor, config: CLAPTrainingConfig, frame_rate: float, rng: Generator) -> Tensor:
    """log mel [T, M] -> another one that is heard as the same."""
    frames, bands = mel.shape
    curve = torch.from_numpy(rng.uniform(-1, 1, (1, 1, _TIMBRE_KNOTS))).float()
    timbre = F.interpolate(curve, bands, mode="linear", align_corners=True)[0, 0]
    out = mel.float() + timbre * (config.timbre_db / 20 * np.log(10))
    if rng.random() < 0.5:
        level = rng.uniform(*config.noise_db) / 20 * np.log(10)
        slope = torch.linspace(0.0, float(rng.uniform(-4.0, 1.0)), bands)
        noise = torch.from_numpy(rng.rayleigh(1.0, (frames, bands))).float().clamp_min(1e-3).log()
        out = torch.logaddexp(2 * out, 2 * (out.amax() + level + slope + noise)) / 2  # powers add
    quiet = float(out.amin())
    for size, most, dim in (
        (frames, config.time_mask_seconds * frame_rate, 0),
        (bands, config.pitch_mask * bands, 1),
    ):
        for _ in range(2):
            width = min(size, int(rng.integers(int(most) + 1)))
            out.narrow(dim, int(rng.integers(size - width + 1)), width).fill_(quiet)
    return out


def questions(recipe: CLAPRecipe, data: Subset, text: T5Conditioner, codec: Codec | None) -> Questions:
    """Every held-out recording once, as it is and through the codec's first codebooks; for each class the caption that
    most of its recordings have."""
    labels = [clip.caption for clip in data.clips]
    config = replace(PLAIN, sample_rate=recipe.model.sample_rate, seconds=recipe.segments.seconds)
    alone = [Segments([data.recordings[i]], [labels[i]], config).example(0, 0) for i in range(len(labels))]
    keys = [example.keys[0] for example in alone]
    known = sorted(set(keys))
    captions = [Counter(label for label, own in zip(labels, keys, strict=True) if own == key) for key in known]
    texts = mean_vector(text([counts.most_common(1)[0][0] for counts in captions]))
    features = CLAP(recipe.model).features
    sounds = {"": [features(example.waveform)[0] for example in alone]}
    if codec is not None:
        coded = [through(codec, example.waveform, recipe.training.fewest_codebooks) for example in alone]
        sounds["_coded"] = [features(waveform)[0] for waveform in coded]
    return Questions(sounds, torch.tensor([known.index(key) for key in keys]), texts)


def sources(recipe: CLAPRecipe, data: TrainingData, text: T5Conditioner, codec: Codec | None) -> tuple[Pool, Questions]:
    """What a CLAPTask learns from, and what it is asked."""
    features = CLAP(recipe.model).features
    return Pool(recipe, data.train, text, codec, features), questions(recipe, data.valid, text, codec)


class CLAPTask:
    """See `audiogen_cli.training.loop.Task`."""

    def __init__(
        self,
        recipe: CLAPRecipe,
        train: Pool,
        validation: Questions,
        source: dict[str, Any],
        start: CLAP | None = None,
    ) -> None:
        self.recipe, self.config = recipe, recipe.training
        self.train, self.validation, self.source = train, validation, source
        self.clap = start or CLAP(recipe.model)
        self.average = ExponentialAverage(self.clap, recipe.loop.ema_decay)
        self.modules: dict[str, nn.Module] = {"clap": self.clap}
        self.extras: dict[str, Any] = {"average": self.average}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}

    def prepare(self, accelerator: Accelerator, config: LoopConfig) -> None:
        self.accelerator, self.loop = accelerator, config
        optimizer = adamw(self.clap, config.learning_rate, self.config.weight_decay)
        self.prepared, prepared = accelerator.prepare(self.clap, optimizer)
        self.average.module.to(accelerator.device)
        self.optimizers = {"clap": prepared}

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng((self.loop.seed, step, 2))
        numbers = rng.choice(len(self.train), min(self.loop.batch_size, len(self.train)), replace=False)
        pairs = [self.train[int(number)] for number in numbers]
        frame_rate = self.recipe.model.sample_rate / self.recipe.model.hop_length
        mel = torch.stack([varied(pair.mel, self.config, frame_rate, rng) for pair in pairs])
        return Batch(mel, torch.stack([pair.text for pair in pairs]), matches([pair.keys for pair in pairs]))

    def step(self, batch: Batch, step: int) -> dict[str, Tensor | float]:
        device, optimizer = self.accelerator.device, self.optimizers["clap"]
        optimizer.zero_grad()
        with self.accelerator.autocast():
            logits = self.prepared(batch.mel.to(device), batch.text.to(device))
        match = batch.match.to(device)
        loss = contrastive_loss(logits.float(), match)
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.clap.parameters(), self.loop.clip_norm)
        optimizer.step()
        self.average.update(self.clap, step)
        first = match.gather(1, logits.argmax(1, keepdim=True))
        accuracy = (first == _RIGHT).float().mean()
        scale = self.clap.log_scale.detach().exp()
        return {"loss": loss.detach(), "accuracy": accuracy, "scale": scale, "gradient_norm": norm}

    @torch.no_grad()
    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """The share of held-out recordings whose class's caption is the first, or among the first five."""
        clap: CLAP = self.average.module  # type: ignore[assignment]
        device, asked = self.accelerator.device, self.validation
        texts = clap.embed_text(asked.texts.to(device))
        found: dict[str, float] = {}
        for name, mels in asked.sounds.items():
            sounds = torch.cat([clap.embed_sound(mel[None].to(device)) for mel in mels])
            ranks = (sounds @ texts.T).argsort(dim=1, descending=True).cpu()
            right = ranks == asked.answers[:, None]
            found |= {f"top{count}{name}": float(right[:, :count].any(dim=1).float().mean()) for count in (1, 5)}
        return found | {"captions": float(len(asked.texts))}

    def export(self, folder: Path) -> None:
        """A checkpoint of kind "clap": the part `clap` of a model."""
        checkpoint.save(folder, self.average.module, self.source, torch.float16)
