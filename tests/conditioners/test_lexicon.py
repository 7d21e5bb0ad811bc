"""Words that nobody taught the model are read as those that somebody did; all else stays as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from audiogen_cli.conditioners.lexicon import HEADER, NAME, Lexicon
from audiogen_cli.errors import ModelError
from audiogen_cli.hub.shelf import SHELVES

LEXICON = Lexicon(
    {
        "mutt": "a dog",
        "mutts": "dogs",
        "downpour": "rain",
        "sobbing": "crying",
        "blast": "an explosion",
        "bow-wow": "a dog",
    }
)


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("a mutt", "a dog"),
        ("mutt barking", "dog barking"),
        ("the mutt barks", "the dog barks"),
        ("A big mutt, barking", "A big dog, barking"),
        ("two mutts", "two dogs"),
        ("a mutt in a downpour", "a dog in rain"),
        ("a blast and a Mutt", "an explosion and a dog"),
        ("An old man sobbing.", "An old man crying."),
        ("a bow-wow", "a dog"),
        ("mutter", "mutter"),
        ("a  mutt", "a  dog"),
        ("", ""),
    ],
)
def test_a_word_is_replaced_with_its_article(said: str, heard: str) -> None:
    assert LEXICON(said) == heard
    assert LEXICON(heard) == heard


def test_a_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_text(HEADER + "a dog: mutt, terrier\nrain: downpour\n\n")
    assert Lexicon.read(path).heard == {"mutt": "a dog", "terrier": "a dog", "downpour": "rain"}


@pytest.mark.parametrize("content", [b"a dog mutt\n", b"\xff\xfe"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(ModelError, match="cannot read the words"):
        Lexicon.read(tmp_path / NAME)


def test_the_bundled_words_are_read_as_words_that_stay() -> None:
    shelf = next(shelf for shelf in SHELVES if (shelf / "sounds-small").is_dir())
    lexicon = Lexicon.read(shelf / "sounds-small" / NAME)
    assert len(lexicon.heard) > 4_000
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", word) for word in lexicon.heard)
    assert all(lexicon(meant) == meant for meant in set(lexicon.heard.values()))
    assert lexicon("a cocker in a cloudburst") != "a cocker in a cloudburst"
    assert lexicon("dog barking in rain") == "dog barking in rain"
