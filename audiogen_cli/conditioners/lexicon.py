"""Words that a model's captions have not, read as the nearest word that they have: "a mutt" is heard as "a dog".

A text encoder as small as ours knows such words hardly, and a language model or flow that never met them makes
anything. A dictionary knows them: words.txt in a model's folder lists them (weights/build/lexicon.py makes it from Open
English WordNet). All other words stay as they are.

    a dog: affenpinscher, mutt, ...
    dogs: mutts, ...
    rain: downpour, ...
"""

from __future__ import annotations

import re
from pathlib import Path

from audiogen_cli.errors import ModelError

NAME = "words.txt"
HEADER = "# how it is heard: what is said (from Open English WordNet, CC-BY 4.0, and Princeton WordNet)\n"

_ARTICLES = ("a ", "an ")


class Lexicon:
    """Callable: text -> text."""

    def __init__(self, heard: dict[str, str]) -> None:
        """heard: from words in lower case to what stands for them, with an article where it takes one."""
        self.heard = heard

    @classmethod
    def read(cls, path: Path) -> Lexicon:
        """Raises ModelError when the file is none."""
        heard: dict[str, str] = {}
        try:
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.strip() and not line.startswith("#"):
                    key, words = line.split(": ", 1)
                    heard |= dict.fromkeys(words.split(", "), key)
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot read the words in {path} ({error}); fetch the model again.") from error
        return cls(heard)

    def __call__(self, text: str) -> str:
        said: list[str] = []
        for token in re.findall(r"\w+(?:-\w+)*|\W+", text):  # words, and what is between them
            meant = self.heard.get(token.lower())
            said = [*said, token] if meant is None else _joined(said, meant)
        return "".join(said)


def _joined(said: list[str], meant: str) -> list[str]:
    """What was said so far, then what is meant, which brings its own article where there was one."""
    bare = meant.split(" ", 1)[1] if meant.startswith(_ARTICLES) else meant
    if len(said) > 1 and f"{said[-2].lower()} " in _ARTICLES and said[-1] == " ":
        return [*said[:-2], meant]
    return [*said, bare]
