"""Other words for a plain prompt: whether the model knows the language, or a list of captions.

Some paraphrases were heard in training (its captions are reworded); of the others no word was, so that only the text
encoder, or a dictionary that came with the model, can know what they mean. Both are judged by the classes of the plain
prompt that they stand for.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from audiogen_cli.errors import InputError
from audiogen_cli.metrics.tagger import among_first
from audiogen_cli.pipelines.listening import Progress, Prompt, Setup, mean, named, read_rows

_ANSWERS = {"yes": True, "no": False}


class Paraphrase(NamedTuple):
    """heard: whether training's captions or their rewordings hold these words."""

    text: str
    prompt: Prompt
    heard: bool


@dataclass(frozen=True)
class ParaphraseRow:
    """read: the paraphrase as the model reads it (conditioners/lexicon.py). generated: the share recognised of its
    sounds; plain: of the plain prompt's."""

    paraphrase: str
    read: str
    prompt: str
    heard: bool
    generated: float
    plain: float


@dataclass(frozen=True)
class ParaphraseMean:
    """Means over paraphrases; relative: the one over the other, None when no plain prompt was recognised."""

    paraphrases: int
    generated: float
    plain: float
    relative: float | None


@dataclass(frozen=True)
class ParaphraseReport:
    """A mean is None where there are no such paraphrases."""

    rows: tuple[ParaphraseRow, ...]
    heard: ParaphraseMean | None
    unseen: ParaphraseMean | None


def read_paraphrases(path: Path, prompts: Sequence[Prompt]) -> list[Paraphrase]:
    """A CSV with the columns paraphrase, prompt (the plain one) and heard ("yes" or "no"); or InputError."""

    def paraphrase(text: str, plain: str, heard: str) -> Paraphrase:
        if heard not in _ANSWERS:
            raise InputError(f"heard is '{heard}' for '{text}' in {path}; write yes or no.")
        return Paraphrase(text, named(prompts, plain), _ANSWERS[heard])

    return read_rows(path, ("paraphrase", "prompt", "heard"), paraphrase)


def measure_paraphrases(
    setup: Setup, paraphrases: Sequence[Paraphrase], plain: Mapping[str, float]
) -> Generator[Progress, None, ParaphraseReport]:
    """plain: the share recognised of each plain prompt's sounds, by its text."""
    sounds = yield from setup.answers([paraphrase.text for paraphrase in paraphrases], "generating paraphrases")
    rows = []
    for index, (text, prompt, heard) in enumerate(paraphrases):
        classes = setup.tagger.indices(prompt.classes)
        own = sounds[index * setup.num_seeds : (index + 1) * setup.num_seeds]
        hits = [among_first(setup.scores(sound), classes) for sound in own]
        read = setup.model.heard(text) or text
        rows.append(ParaphraseRow(text, read, prompt.text, heard, sum(hits) / len(hits), plain[prompt.text]))
    groups = [mean_of([row for row in rows if row.heard is heard]) for heard in (True, False)]
    return ParaphraseReport(tuple(rows), *groups)


def mean_of(rows: Sequence[ParaphraseRow]) -> ParaphraseMean | None:
    """Every paraphrase counts the same, and its plain prompt as often as it is paraphrased."""
    generated, plain = mean([row.generated for row in rows]), mean([row.plain for row in rows])
    if generated is None or plain is None:
        return None
    return ParaphraseMean(len(rows), generated, plain, generated / plain if plain else None)
