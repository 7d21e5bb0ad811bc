"""Word error rate: how far what was heard is from what was said (Levenshtein 1966, over words).

    said     to these he gave castor oil
    heard    to these he  ate ******* oil      1 other word, 1 missing, none too many: 2 of 6, a rate of 0.33

Both are compared as `normal` spells them: small letters, no marks, numbers in words. The rate of several texts is all
their errors over all their words, and may exceed 1.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = ((1_000_000, "million"), (1_000, "thousand"), (100, "hundred"))
_SPELLED_DIGITS = 9  # longer numbers are read digit by digit, as telephone numbers are
_SHORT = {"mr": "mister", "mrs": "missus", "dr": "doctor", "ok": "okay", "%": "percent", "&": "and"}


@dataclass(frozen=True)
class Errors:
    """What turns what was said into what was heard. said: how many there were to say."""

    said: int = 0
    wrong: int = 0
    missing: int = 0
    extra: int = 0

    @property
    def count(self) -> int:
        return self.wrong + self.missing + self.extra

    @property
    def rate(self) -> float:
        """Errors for each that was to be said; where nothing was, each extra one is a whole error."""
        return self.count / max(1, self.said)

    def __add__(self, other: Errors) -> Errors:
        return Errors(
            self.said + other.said,
            self.wrong + other.wrong,
            self.missing + other.missing,
            self.extra + other.extra,
        )


def word_errors(said: str, heard: str) -> Errors:
    return errors(normal(said), normal(heard))


def letter_errors(said: str, heard: str) -> Errors:
    """The same of letters, without spaces; it still tells how near speech is when no word is right."""
    return errors("".join(normal(said)), "".join(normal(heard)))


def total(found: Iterable[Errors]) -> Errors:
    return sum(found, Errors())


def normal(text: str) -> list[str]:
    """The words of a text, as they sound: "Mr. O’Neil paid 20%" -> mister o'neil paid twenty percent."""
    plain = unicodedata.normalize("NFKD", text).replace("’", "'").lower()
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", plain)
    words = list[str]()
    for word in re.findall(r"\d+|[^\W\d_]+(?:'[^\W\d_]+)*|[%&]", plain):
        words += _spelled(word) if word.isdecimal() else [_SHORT.get(word, word)]
    return words


def errors(said: Sequence[Hashable], heard: Sequence[Hashable]) -> Errors:
    """The fewest errors; among as few, the most that are `wrong`."""
    row = [Errors(0, 0, 0, extra) for extra in range(len(heard) + 1)]
    for number, one in enumerate(said, start=1):
        above, row = row, [Errors(0, 0, number, 0)]
        for place, other in enumerate(heard):
            left, up, corner = row[-1], above[place + 1], above[place]
            if one == other:
                row.append(corner)
                continue
            steps = (corner + Errors(wrong=1), up + Errors(missing=1), left + Errors(extra=1))
            row.append(min(steps, key=lambda step: step.count))
    return row[-1] + Errors(said=len(said))


def _spelled(digits: str) -> list[str]:
    if len(digits) > _SPELLED_DIGITS or (len(digits) > 1 and digits[0] == "0"):
        return [_UNITS[int(digit)] for digit in digits]
    return _number(int(digits))


def _number(value: int) -> list[str]:
    if value < 20:
        return [_UNITS[value]]
    if value < 100:
        return [_TENS[value // 10], *(_number(value % 10) if value % 10 else [])]
    scale, name = next(entry for entry in _SCALES if value >= entry[0])
    return [*_number(value // scale), name, *(_number(value % scale) if value % scale else [])]
