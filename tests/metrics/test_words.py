"""Word error rate by hand-counted cases, and by what must hold for any texts."""

import itertools
import random

import pytest

from audiogen_cli.metrics.words import Errors, errors, letter_errors, normal, total, word_errors


@pytest.mark.parametrize(
    ("said", "heard", "wrong", "missing", "extra"),
    [
        ("to these he gave castor oil", "To these he ate oil.", 1, 1, 0),
        ("one two three", "one two three", 0, 0, 0),
        ("one two three", "", 0, 3, 0),
        ("", "one two", 0, 0, 2),
        ("", "", 0, 0, 0),
        ("a b c", "b c d", 0, 1, 1),
        ("a b c", "x y z", 3, 0, 0),
        ("a b", "a x b y", 0, 0, 2),
    ],
)
def test_errors_are_counted_as_by_hand(said: str, heard: str, wrong: int, missing: int, extra: int) -> None:
    found = word_errors(said, heard)
    assert (found.wrong, found.missing, found.extra) == (wrong, missing, extra)
    assert found.said == len(said.split())


def test_the_rate_is_over_all_words_and_nothing_said_counts_every_word_heard() -> None:
    both = total([word_errors("a b c d", "a b c"), word_errors("e", "x")])
    assert both == Errors(said=5, wrong=1, missing=1) and both.rate == pytest.approx(0.4)
    assert word_errors("", "two words").rate == 2.0
    assert total([]).rate == 0.0


def test_errors_are_the_fewest_that_there_are() -> None:
    """Against all ways to align two short sequences."""

    def fewest(a: tuple[int, ...], b: tuple[int, ...]) -> int:
        best = len(a) + len(b)
        for count in range(min(len(a), len(b)) + 1):
            for left in itertools.combinations(a, count):
                for right in itertools.combinations(b, count):
                    wrong = sum(x != y for x, y in zip(left, right, strict=True))
                    best = min(best, wrong + len(a) - count + len(b) - count)
        return best

    chance = random.Random(0)
    for _ in range(60):
        a, b = (tuple(chance.choices(range(3), k=chance.randrange(6))) for _ in range(2))
        found = errors(a, b)
        assert found.count == fewest(a, b)
        assert found.said - found.missing + found.extra == len(b)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Mr. O’Neil paid 20%", "mister o'neil paid twenty percent"),
        ("  Hello -- world!  ", "hello world"),
        ("well-known café", "well known cafe"),
        ("'Tis the dogs' dinner", "tis the dogs dinner"),
        ("1,024 and 0", "one thousand twenty four and zero"),
        ("in 1999, 100 of 12", "in one thousand nine hundred ninety nine one hundred of twelve"),
        ("2000000", "two million"),
        ("call 007 or 5551234567", "call zero zero seven or five five five one two three four five six seven"),
        ("2x A&B", "two x a and b"),
    ],
)
def test_texts_are_compared_as_they_sound(text: str, words: str) -> None:
    assert " ".join(normal(text)) == words


def test_letters_tell_what_words_do_not() -> None:
    assert word_errors("castor oil", "caster royal").rate == 1.0
    assert 0 < letter_errors("castor oil", "caster royal").rate < 0.5
    assert letter_errors("a b", "ab").count == 0
