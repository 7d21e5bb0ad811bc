"""One plain caption in, the many ways that people would type it out.

    parse("a dog barking")  ->  Phrase("a", "dog", "barking", "")
    widen(...)              ->  "dog barks", "the sound of a hound barking", "barking dog", "dog barking twice"
    mix(...), follow(...)   ->  "dog barking in the rain", "a dog barks while it rains"; "a door opens, then ..."

Captions of recordings are short noun phrases, most with a participle. The grammar here knows just that; a caption that
it cannot take apart is only given articles and a frame. The word lists are in words.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from numpy.random import Generator

from audiogen_cli.data import words


class Phrase(NamedTuple):
    """article and subject, then a participle (or "") and what follows it."""

    article: str
    subject: str
    verb: str
    rest: str

    @property
    def plural(self) -> bool:
        last = self.subject.split()[-1]
        return last in ("people", "cattle", "wolves") or (last.endswith("s") and not last.endswith(("ss", "us")))


class Part(NamedTuple):
    """One sound of a mixture: its caption and how many times it is heard (0: without a break)."""

    caption: str
    times: int = 1


def parse(caption: str) -> Phrase:
    """Takes "the sound of" off and finds article, subject, participle and rest."""
    tokens = re.sub(r"^(the )?sounds? of ", "", _clean(caption)).split()
    article = tokens.pop(0) if len(tokens) > 1 and tokens[0] in words.ARTICLES else ""
    for i, word in enumerate(tokens[1:], start=1):
        if (
            is_participle(word)
            and tokens[i - 1] not in (*words.ARTICLES, *words.PREPOSITIONS)
            and "with" not in tokens[:i]
        ):
            return Phrase(article, " ".join(tokens[:i]), word, " ".join(tokens[i + 1 :]))
        if word == "barks":
            return Phrase(article, " ".join(tokens[:i]), "barking", " ".join(tokens[i + 1 :]))
    return Phrase(article, " ".join(tokens), "", "")


def class_key(caption: str) -> str:
    """A name for what is heard, the same for captions that differ in words only; training is balanced over it."""
    caption = _clean(caption)
    for key, pattern in words.CLASSES:
        if re.search(pattern, caption):
            return key
    phrase = parse(caption)
    return _join(phrase.subject, phrase.verb, phrase.rest)


def is_steady(caption: str) -> bool:
    """Whether the sound goes on by itself, so that it may be looped, and is no event that could be counted."""
    return class_key(caption) in words.STEADY_CLASSES or bool(re.search(words.STEADY_WORDS, _clean(caption)))


def is_setting(caption: str) -> bool:
    """Whether the sound can be the place in which another one happens: rain, wind, a crowd."""
    return class_key(caption) in words.SETTINGS


def widen(caption: str, rng: Generator, times: int = 1) -> str:
    """One of the many ways to ask for `caption`, heard `times` times (0: without a break)."""
    phrase = parse(caption)
    if times <= 1 and rng.random() < 0.2 and (others := words.PHRASES.get(class_key(caption))):
        return _pick(others, rng)
    phrase = Phrase(phrase.article, *(_synonyms(part, rng) for part in phrase[1:]))
    if not phrase.verb:
        return _noun_phrase(phrase, times, rng)
    suffix = _counted(times, rng)
    if rng.random() < 0.12:
        return _framed(_join(phrase.subject, phrase.verb, phrase.rest, suffix), rng)
    return _join(_verb_phrase(phrase, bool(suffix), rng), suffix)


def mix(front: Part, back: Part, rng: Generator) -> str:
    """The caption of two sounds at once. A setting goes behind, "X in the rain"; others join with "and" or "with"."""
    if is_setting(front.caption) and not is_setting(back.caption):
        front, back = back, front
    first = widen(front.caption, rng, front.times)
    settings = words.SETTINGS.get(class_key(back.caption), ())
    if settings and rng.random() < 0.5:
        return f"{first} {_pick(settings, rng)}"
    if rng.random() < 0.2 and (clause := finite(back.caption)):
        return f"{first} {_pick(('while', 'as'), rng)} {clause}"
    second = widen(back.caption, rng, back.times)
    if not settings and rng.random() < 0.5:
        first, second = second, first
    return f"{first}{_pick((' and ', ' and ', ' with ', ' with ', ', ', ' over ', ' plus '), rng)}{second}"


def follow(first: Part, second: Part, rng: Generator) -> str:
    """The caption of two sounds one after the other."""
    one, two = widen(first.caption, rng, first.times), widen(second.caption, rng, second.times)
    forms = (
        "{0} then {1}",
        "{0}, then {1}",
        "{0} followed by {1}",
        "{0} and then {1}",
        "{1} after {0}",
        "first {0}, then {1}",
    )
    return _pick(forms, rng).format(one, two)


def finite(caption: str) -> str | None:
    """ "a dog barking" -> "a dog barks"; None where there is no participle to turn."""
    phrase = parse(caption)
    if not phrase.verb or re.match(r"and (?!\w+ing\b)", phrase.rest):
        return None
    return _finite(phrase)


def _finite(phrase: Phrase) -> str:
    verb = ("are" if phrase.plural else "is") if phrase.verb == "being" else _inflect(phrase.verb, phrase.plural)
    rest = re.sub(r"^and (\w+ing)\b", lambda match: f"and {_inflect(match[1], phrase.plural)}", phrase.rest)
    return _join(phrase.article, phrase.subject, verb, rest)


def _verb_phrase(phrase: Phrase, counted: bool, rng: Generator) -> str:
    short = not phrase.rest and phrase.verb != "being"
    stem = _stem(phrase.verb)
    bare = _join(phrase.subject, phrase.verb, phrase.rest)
    forms = [(4.0, bare), (3.0, _join(_article(phrase.article, phrase.subject), bare))]
    if not re.match(r"and (?!\w+ing\b)", phrase.rest):
        forms.append((2.0, _finite(phrase._replace(article=_article(phrase.article, phrase.subject)))))
        forms.append((0.7, _finite(phrase._replace(article=""))))
    if short:
        forms.append((1.0, f"{phrase.verb} {phrase.subject}"))
        forms.append((0.4, _join(_article(phrase.article, phrase.verb), phrase.verb, phrase.subject)))
    if short and stem in words.NOMINAL:
        forms.append((1.0, f"{phrase.subject} {stem}"))
    if short and not counted and phrase.subject.split()[-1] not in words.PEOPLE:
        forms.append((0.7, phrase.subject))
    return _weighted(forms, rng)


def _noun_phrase(phrase: Phrase, times: int, rng: Generator) -> str:
    if times >= 2 and phrase.article in ("a", "an"):
        plural = pluralize(phrase.subject)
        number = _pick(words.NUMBERS[min(times, 5)], rng) if rng.random() < 0.5 else ""
        return _join(number, plural)
    if rng.random() < 0.12:
        return _framed(phrase.subject, rng)
    forms = [(3.0, _join(_article(phrase.article, phrase.subject), phrase.subject)), (4.0, phrase.subject)]
    if len(phrase.subject.split()) == 1:
        forms.append((0.5, f"{phrase.subject} sound"))
    return _weighted(forms, rng)


def _framed(text: str, rng: Generator) -> str:
    return f"{_pick(('the sound of', 'sound of', 'sounds of', 'a recording of'), rng)} {text}"


def _counted(times: int, rng: Generator) -> str:
    """A word for the count, now and then; it can always be left out."""
    chance = {0: 0.06, 1: 0.06, 2: 0.5, 3: 0.5}.get(times, 0.3)
    return _pick(words.TIMES[min(times, 5)], rng) if rng.random() < chance else ""


def pluralize(subject: str) -> str:
    """ "footstep on gravel" -> "footsteps on gravel": the noun before the first preposition."""
    tokens = subject.split()
    head = next(
        (i for i, word in enumerate(tokens) if i and (word in words.PREPOSITIONS or is_participle(word))), len(tokens)
    )
    noun = tokens[head - 1]
    if noun in words.PLURALS:
        tokens[head - 1] = words.PLURALS[noun]
    elif noun.endswith(("s", "sh", "ch", "x", "z")):
        tokens[head - 1] = noun if noun.endswith("s") and not noun.endswith("ss") else noun + "es"
    elif noun.endswith("y") and noun[-2] not in "aeiou":
        tokens[head - 1] = noun[:-1] + "ies"
    else:
        tokens[head - 1] = noun + "s"
    return " ".join(tokens)


def _inflect(participle: str, plural: bool) -> str:
    """ "crying" -> "cries", or "cry" after a plural."""
    stem = _stem(participle)
    if plural:
        return stem
    if stem.endswith(("s", "sh", "ch", "x", "z")):
        return stem + "es"
    return stem[:-1] + "ies" if stem.endswith("y") and stem[-2] not in "aeiou" else stem + "s"


def _stem(participle: str) -> str:
    """ "barking" -> "bark", "humming" -> "hum", "rattling" -> "rattle", "sneezing" -> "sneeze"."""
    stem = participle[:-3]
    if stem[-1:] == stem[-2:-1] and stem[-1] in "bdgmnptv":
        return stem[:-1]
    soft = stem[-1:] in "cszvgu" and stem[-1:] != stem[-2:-1] and not stem.endswith("ng")
    syllable = stem.endswith("l") and stem[-2:-1] not in "aeiourwl"
    return stem + "e" if soft or syllable or stem in words.SILENT_E else stem


def is_participle(word: str) -> bool:
    """Whether a word says what is done: "barking", but not "building"."""
    return word.endswith("ing") and len(word) > 4 and word not in words.NOT_VERBS


def _synonyms(text: str, rng: Generator, chance: float = 0.2) -> str:
    tokens = text.split()
    return " ".join(
        _pick(words.SYNONYMS[w], rng) if w in words.SYNONYMS and rng.random() < chance else w for w in tokens
    )


def _article(article: str, following: str) -> str:
    """a or an, whichever the next word wants; other articles stay."""
    if article not in ("a", "an"):
        return article
    return "an" if following[:1] in "aeiou" and not following.startswith(("eu", "one", "uni")) else "a"


def _clean(caption: str) -> str:
    return " ".join(caption.lower().strip(" .!\n\t").split())


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _pick(options: Sequence[str], rng: Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _weighted(forms: Sequence[tuple[float, str]], rng: Generator) -> str:
    at = rng.random() * sum(weight for weight, _ in forms)
    for weight, form in forms:
        at -= weight
        if at < 0:
            return form
    return forms[-1][1]
