"""Text to numbers for a model that speaks: the bytes of a text, or phonemes that somebody else has found.

    Symbols("bytes")("I am")                                  # tensor([73, 32, 97, 109])
    Symbols.of_texts("phonemes", ["AY1 _ AE1 M"])("AE1 M")     # the places of AE1 and M in its table

Bytes need nothing and know every text, as English is spelled. Phonemes are names with spaces between them, of any
alphabet; what turns a spelling into them is the user's choice, for none of the published ones is at once maintained,
free of system programs and of downloads, and of a licence that all can use.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from audiogen_cli.config import nearest
from audiogen_cli.errors import InputError

Kind = Literal["bytes", "phonemes"]


@dataclass(frozen=True)
class Symbols:
    """A model's alphabet. names: of the phonemes, in the order of their numbers; bytes are their own numbers."""

    kind: Kind = "bytes"
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.kind == "bytes") == bool(self.names) or len(set(self.names)) < len(self.names):
            raise ValueError("phonemes need names, each its own, and bytes have none; correct the table of symbols")

    @staticmethod
    def of_texts(kind: Kind, texts: Iterable[str]) -> Symbols:
        """The alphabet of these texts. Raises InputError when there is nothing in them."""
        found = tuple(sorted({name for text in texts for name in text.split()}))
        if not found:
            raise InputError("there is no text to learn to speak; give recordings with transcripts.")
        return Symbols(kind, found if kind == "phonemes" else ())

    @property
    def size(self) -> int:
        return len(self.names) or 256

    def __call__(self, text: str) -> Tensor:
        """int64 [L]. Raises InputError for a text that says nothing, or a phoneme that is not in the table."""
        text = " ".join(unicodedata.normalize("NFC", text).split())
        if not text:
            raise InputError("the text is empty; write what is to be said.")
        if self.kind == "bytes":
            return torch.tensor(list(text.encode()))
        number = {name: index for index, name in enumerate(self.names)}
        for name in text.split():
            if name not in number:
                raise InputError(f"the model speaks phonemes and has never met '{name}'{nearest(name, self.names)}.")
        return torch.tensor([number[name] for name in text.split()])

    def joined(self, first: Tensor, second: Tensor) -> Tensor:
        """The symbols of two texts [L1] and [L2], of which either may be none, as those of one: words stay apart."""
        space = [32] if self.kind == "bytes" and len(first) and len(second) else []
        return torch.cat([first, first.new_tensor(space), second])


def sentences(text: str, most: int) -> list[str]:
    """The text in parts of at most `most` characters where its sentences, clauses or words allow that, in order."""
    parts: list[str] = []
    for sentence in re.split(r"(?<=[.!?])\s+", text.strip()):
        pieces = [sentence] if len(sentence) <= most else re.split(r"(?<=[,;:])\s+", sentence)
        for piece in pieces:
            words = [piece] if len(piece) <= most else piece.split()
            for word in words:
                joins = bool(parts) and len(parts[-1]) + 1 + len(word) <= most
                parts[-1:] = [f"{parts[-1]} {word}"] if joins else [*parts[-1:], word]
    return parts
