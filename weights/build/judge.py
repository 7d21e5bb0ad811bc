# ruff: noqa: T201  (a script that reports to whoever runs it)
"""Makes the judge of the bundled model: EfficientAT's mn04 with its normalizations multiplied in, and two layers that
expect classes of a text.

    python weights/build/judge.py DATA mn04_as_mAP_432.pt class_labels_indices.csv weights/sounds-small

DATA: of build/lm_data.py; of it only what was trained on. mn04: of that project's releases (MIT licence), 4 MB; the
names are AudioSet's own list. A caption lets one expect what the ear hears in its recordings more than in others, and
the classes that its words name, as much of either; a class's name the class. Captions are reworded as in training.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from audiogen_cli.data import audio, captions, manifest
from audiogen_cli.hub import catalog, checkpoint
from audiogen_cli.hub.model import JUDGE, Model
from audiogen_cli.models.clap import mean_vector
from audiogen_cli.models.ear import BLOCKS, Ear
from audiogen_cli.models.judge import Judge, JudgeConfig
from audiogen_cli.models.mel import MelCodec

SECONDS, SHORTEST = 5.0, 3.0  # what is heard of a recording, short ones repeated
MOST = 24  # recordings of one caption that are heard
WORDINGS, EPOCHS, BATCH, RATE = 12, 30, 64, 1e-3
EPSILON = 1e-3  # of mn04's batch normalizations
ENDINGS = ("ing", "es", "s", "ed", "e")
LITTLE = {"a", "an", "the", "of", "on", "in", "sound", "and"}
VAGUE = {  # what a caption's words name by chance, or what says nothing
    "Music", "Speech", "Noise", "Hands", "Tools", "Animal", "Echo", "Static", "Inside, small room", "Tap",
    "Fly, housefly", "Light engine (high frequency)", "Sound effect", "Video game music",
}  # fmt: skip


class Target(NamedTuple):
    """classes: shares that add up to 1, [527]. weight: how sure the ear is of them. sounds: what it hears of each
    recording through its mel spectrogram, [N, D]."""

    classes: Tensor
    weight: float
    sounds: Tensor


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """mn04's weights -> those of `Ear`."""
    made: dict[str, Tensor] = {}

    def conv(name: str, theirs: str) -> None:
        scale = state[f"{theirs}.1.weight"] * (state[f"{theirs}.1.running_var"] + EPSILON).rsqrt()
        made[f"{name}.weight"] = state[f"{theirs}.0.weight"] * scale[:, None, None, None]
        made[f"{name}.bias"] = state[f"{theirs}.1.bias"] - state[f"{theirs}.1.running_mean"] * scale

    def linear(name: str, theirs: str) -> None:
        made[f"{name}.weight"], made[f"{name}.bias"] = state[f"{theirs}.weight"], state[f"{theirs}.bias"]

    conv("first", "features.0")
    conv("last", f"features.{len(BLOCKS) + 1}")
    linear("hidden", "classifier.2")
    linear("output", "classifier.5")
    for index, (_, _, _, squeezed, _) in enumerate(BLOCKS):
        theirs = f"features.{index + 1}.block"
        parts = ["widen"] * (index > 0) + ["depthwise"] + ["squeeze"] * squeezed + ["narrow"]
        for number, part in enumerate(parts):
            if part == "squeeze":
                linear(f"blocks.{index}.squeeze", f"{theirs}.{number}.conc_se_layers.0.fc1")
                linear(f"blocks.{index}.excite", f"{theirs}.{number}.conc_se_layers.0.fc2")
            else:
                conv(f"blocks.{index}.{part}", f"{theirs}.{number}")
    return made


def stems(text: str) -> set[str]:
    """Its words without their endings."""
    found = set()
    for word in re.findall(r"[a-z]+", text.lower()):
        ending = next((e for e in ENDINGS if word.endswith(e) and len(word) - len(e) >= 3), "")
        if word not in LITTLE:
            found.add(word.removesuffix(ending))
    return found


def named(caption: str, labels: Sequence[str]) -> Tensor:
    """Which classes have a name, or one of several, whose words are all in the caption, [527]."""
    words = stems(caption)
    parts = [[stems(part) for part in re.split(r",\s*", label)] for label in labels]
    fits = [any(part and part <= words for part in names) for names in parts]
    return torch.tensor([float(fit and label not in VAGUE) for fit, label in zip(fits, labels, strict=True)])


def read_labels(path: Path) -> list[str]:
    with path.open() as file:
        return [row["display_name"] for row in csv.DictReader(file)]


@torch.no_grad()
def targets(codec: MelCodec, ear: Ear, labels: Sequence[str], clips: Sequence[manifest.Clip]) -> dict[str, Target]:
    """What is to be expected of each caption."""
    heard: dict[str, list[Tensor]] = defaultdict(list)
    sounds: dict[str, list[Tensor]] = defaultdict(list)
    rate, highest = codec.sample_rate, codec.config.voice.f_max
    for clip in clips:
        if len(heard[clip.caption]) == MOST:
            continue
        waveform, source = audio.read(Path(clip.path))
        waveform = audio.resample(audio.remix(waveform, 1), source, rate)[:, : round(SECONDS * rate)]
        if float(waveform.abs().max()) < 1e-3:
            continue
        if waveform.shape[1] < SHORTEST * rate:
            gapped = torch.nn.functional.pad(waveform, (0, rate // 4))
            waveform = gapped.repeat(1, -(-round(SHORTEST * rate) // gapped.shape[1]))
        spectrum = torch.fft.rfft(waveform)
        kept = torch.arange(spectrum.shape[1]) * rate / waveform.shape[1] < highest
        low = torch.fft.irfft(spectrum * kept, waveform.shape[1])
        heard[clip.caption].append(ear.named(ear(low, rate))[0].sigmoid())
        sounds[clip.caption].append(ear(codec.scattered(codec.level(waveform[None])), rate)[0])
    means = {caption: torch.stack(found).mean(dim=0) for caption, found in heard.items() if found}
    usual = torch.stack(list(means.values())).mean(dim=0).clamp_min(1e-4)
    found = {}
    for caption, mean in means.items():
        special = mean * (mean / usual).clamp_min(1.0).log()
        most = float(special.max())
        special = special * (special > 0.2 * most)
        special, words = special / special.sum().clamp_min(1e-9), named(caption, labels)
        own = torch.stack(sounds[caption])
        if words.sum() > 0:
            words = words / words.sum()
            found[caption] = Target((words + special) / 2 if most > 0.1 else words, 1.0, own)
        elif most > 0.1:
            found[caption] = Target(special, min(1.0, 2 * most) ** 0.5, own)
    return found


class Lesson(NamedTuple):
    """text: [512]; classes: [527]."""

    text: Tensor
    classes: Tensor
    weight: float


def lessons(model: Model, wanted: dict[str, Target], labels: Sequence[str]) -> list[Lesson]:
    """Captions in several wordings, and the classes' names."""
    rng = np.random.default_rng(0)
    said: list[tuple[str, Tensor, float]] = []
    for caption, (classes, weight, sounds) in wanted.items():
        wordings = {caption, *(captions.widen(caption, rng) for _ in range(WORDINGS))}
        said += [(text, classes, weight * len(sounds) ** 0.25 / len(wordings)) for text in sorted(wordings)]
    for label, classes in zip(labels, torch.eye(len(labels)), strict=True):
        names = {label.lower(), *re.split(r",\s*|\s*\(.*\)", label.lower())} - {""}
        said += [(text, classes, 0.5 / len(names)) for text in sorted(names)]
    vectors = []
    with torch.no_grad():
        for start in range(0, len(said), BATCH):
            vectors += mean_vector(model.text([text for text, _, _ in said[start : start + BATCH]])).unbind()
    return [Lesson(vector.clone(), *rest) for vector, (_, *rest) in zip(vectors, said, strict=True)]


def learn(judge: Judge, learned: Sequence[Lesson]) -> None:
    generator = torch.Generator().manual_seed(0)
    text, classes = torch.stack([x.text for x in learned]), torch.stack([x.classes for x in learned])
    weights = torch.tensor([x.weight for x in learned])
    weights = weights / weights.mean()
    layers = [*judge.norm.parameters(), *judge.expand.parameters(), *judge.project.parameters()]
    optimizer = torch.optim.AdamW(layers, RATE, weight_decay=0.05)
    judge.train()
    for epoch in range(EPOCHS):
        optimizer.param_groups[0]["lr"] = RATE * (1 - epoch / EPOCHS)
        for rows in torch.randperm(len(text), generator=generator).split(BATCH):
            loss = -(weights[rows, None] * classes[rows] * judge.expected(text[rows])).sum(dim=1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    judge.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("ear", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()

    model = catalog.load("sounds-small")
    torch.manual_seed(0)
    judge = Judge(JudgeConfig(text_dim=model.text.dim, text_fingerprint=model.text.fingerprint))
    judge.ear.load_state_dict(convert(torch.load(arguments.ear, map_location="cpu", weights_only=True)))
    judge.ear.requires_grad_(False)
    labels = read_labels(arguments.labels)
    clips = manifest.select(manifest.read(arguments.data / manifest.NAME), "train", ["A"])
    codec: Any = model.codec
    wanted = targets(codec, judge.ear.eval(), labels, clips)
    learned = lessons(model, wanted, labels)
    unseen = sorted(wanted)[::10]
    learn(judge, lessons(model, {key: value for key, value in wanted.items() if key not in unseen}, labels))
    with torch.no_grad():
        right = [
            float(wanted[caption].classes[judge.expected(mean_vector(model.text([caption]))).argmax()]) > 0
            for caption in unseen
        ]
    print(f"{sum(right)} of {len(right)} captions that it did not learn lead it to expect one of their classes first")
    for layer in (judge.norm, judge.expand, judge.project):
        layer.reset_parameters()
    learn(judge, learned)
    source = {"licence": "MIT (the ear: EfficientAT's mn04, copyright 2022 Florian Schmid); CC-BY-4.0 (the rest)"}
    checkpoint.save(arguments.out / JUDGE, judge, source, torch.float16)
    print(f"learnt {len(wanted)} captions and {len(labels)} names in {len(learned)} wordings")


if __name__ == "__main__":
    main()
