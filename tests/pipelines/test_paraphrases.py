"""Other words for a prompt; and that the committed ones are what they say they are."""

import csv
import re

import pytest

from audiogen_cli.data import words
from audiogen_cli.errors import InputError
from audiogen_cli.hub.catalog import SHELVES
from audiogen_cli.models.decoding import finish
from audiogen_cli.pipelines import paraphrases
from audiogen_cli.pipelines.listening import read_prompts
from audiogen_cli.pipelines.paraphrases import Paraphrase

WEIGHTS = next(shelf for shelf in SHELVES if (shelf / "build").is_dir())
LITTLE_WORDS = {"a", "an", "the"}


def vocabulary(texts):
    """Every word, and each with an s more or less."""
    found = {word for text in texts for word in re.findall(r"[a-z]+", text.lower())}
    return found | {word + "s" for word in found} | {word.removesuffix("s") for word in found}


def heard_in_training():
    """The words of the bundled model's captions and of every rewording of them."""
    with open(WEIGHTS / "sounds-small" / "sources.csv", encoding="utf-8", newline="") as file:
        captions = [row["caption"] for row in csv.DictReader(file)]
    tables = (words.SYNONYMS, words.PHRASES, words.SETTINGS, words.TIMES, words.NUMBERS, words.PLURALS)
    return vocabulary([*captions, *(text for table in tables for texts in table.values() for text in texts)])


def test_what_is_called_unseen_was_in_no_caption_and_no_rewording():
    known = heard_in_training()
    prompts = read_prompts(WEIGHTS / "build" / "eval_prompts.csv")
    read = paraphrases.read_paraphrases(WEIGHTS / "build" / "eval_paraphrases.csv", prompts)
    assert sum(not paraphrase.heard for paraphrase in read) >= 10
    for text, _, heard in read:
        own = set(re.findall(r"[a-z]+", text)) - LITTLE_WORDS
        assert own <= known if heard else own.isdisjoint(known), text


def test_shares_stand_beside_those_of_the_plain_prompts(asked, prompts):
    asked_for = [
        Paraphrase("rain shower", prompts[1], heard=True),
        Paraphrase("a clock", prompts[3], heard=False),
        Paraphrase("a timepiece", prompts[3], heard=False),
    ]
    report = finish(paraphrases.measure_paraphrases(asked, asked_for, {"rain": 0.5, "clock": 1.0}))
    assert [row.generated for row in report.rows] == [1.0, 1.0, 0.0]
    assert report.heard.relative == 2.0
    assert [row.read for row in report.rows] == ["rain shower", "a clock", "a timepiece"]
    assert (report.unseen.paraphrases, report.unseen.plain, report.unseen.relative) == (2, 1.0, 0.5)


def test_nothing_is_relative_to_a_plain_prompt_that_is_never_recognised(asked, prompts):
    report = finish(paraphrases.measure_paraphrases(asked, [Paraphrase("rain", prompts[1], True)], {"rain": 0.0}))
    assert report.heard.relative is None and report.unseen is None


@pytest.mark.parametrize(("line", "said"), [("a mutt,dog,perhaps", "yes or no"), ("a mutt,wolf,no", "'wolf'")])
def test_a_paraphrase_that_cannot_be_judged_is_refused(tmp_path, prompts, line, said):
    (tmp_path / "words.csv").write_text(f"paraphrase,prompt,heard\n{line}\n")
    with pytest.raises(InputError, match=said):
        paraphrases.read_paraphrases(tmp_path / "words.csv", prompts)
