"""A text of several sounds, taken apart: the way back of `captions.mix` and `captions.follow`.

    "footsteps, then a door in the rain"  ->  [["footsteps"], ["a door", "rain"]]    one after the other, [at once, ..]

Only what is plainly several sounds is split. "with", "over" and a comma also stand inside of one ("a man with a drum"),
so they part nothing but two sounds whose classes the captions know; "and" does not part what one does ("people talking
and laughing").
"""

from __future__ import annotations

import re

from audiogen_cli.data import captions, words

Scene = list[list[str]]

MOST = 4  # sounds of a text; what has more is left whole

_NEXT = re.compile(r",? and then |,? then |,? followed by ")
_JOINTS = re.compile(r",? (?:and|while|plus) |,? (?:with|over|as) |, ")
_SURE = re.compile(r",? (?:and|while|plus) ")
_PLACE = re.compile(r" (?:in|by|near|at|under|over|during|beside|through) (?:the |a )?")

_SAID = {phrase: key for key, phrases in words.PHRASES.items() for phrase in phrases}
_SETTINGS = {f" {phrase}": key for key, phrases in words.SETTINGS.items() for phrase in phrases}
_CLASSES = frozenset(key for key, _ in words.CLASSES)


def split(text: str) -> Scene:
    """Sounds one after the other, each a list of those that are heard at once; a single one is [[text]]."""
    scene = [_at_once(turn) for turn in _in_turn(" ".join(text.lower().strip(" .!").split()))]
    count = sum(len(turn) for turn in scene)
    return scene if 1 < count <= MOST else [[text]]


def _in_turn(text: str) -> list[str]:
    turns = _NEXT.split(text.removeprefix("first "))
    if len(turns) == 1 and " after " in text:
        later, earlier = text.split(" after ", 1)
        if _is_sound(later) and _is_sound(earlier):
            return [earlier, later]
    return turns if all(turns) else [text]


def _at_once(text: str) -> list[str]:
    for phrase, key in _SETTINGS.items():
        front = text.removesuffix(phrase)
        if front != text and key in words.PHRASES and _is_sound(front) and _class(front) != key:
            said = words.PHRASES[key]
            return [*_at_once(front), key if key in said else said[0]]
    for joint in _JOINTS.finditer(text):
        front, back = text[: joint.start()], text[joint.end() :]
        if _is_known(front) and _is_known(back) and not _is_deed(back):
            return [*_at_once(front), *_at_once(back)]
        alike = captions.parse(back).article or not _is_thing_alone(front)  # "a loud and deep explosion" is one
        if _SURE.fullmatch(joint[0]) and _is_sound(front) and _is_sound(back) and not _is_deed(back) and alike:
            return [*_at_once(front), *_at_once(back)]
    for joint in _PLACE.finditer(text):
        front, back = text[: joint.start()], text[joint.end() :]
        if _class(back) in words.SETTINGS and _is_sound(front):
            return [*_at_once(front), back]
    return [text]


def _class(text: str) -> str | None:
    """The class of a text that the captions know."""
    bare = re.sub(r"^(a|an|the) ", "", text)
    key = _SAID.get(text) or _SAID.get(bare) or captions.class_key(text)
    return key if key in _CLASSES or key in words.PHRASES else None


def _is_known(text: str) -> bool:
    return _class(text) is not None


def _is_sound(text: str) -> bool:
    """Whether a text could be a sound by itself: a thing, or one that does something."""
    phrase = captions.parse(text)
    thing = bool(phrase.subject) and (bool(phrase.verb) or bool(phrase.article) or phrase.plural)
    return thing or _is_known(text)


def _is_thing_alone(text: str) -> bool:
    """Whether only its article makes it a thing."""
    phrase = captions.parse(text)
    return bool(phrase.article) and not phrase.verb and not phrase.plural and not _is_known(text)


def _is_deed(text: str) -> bool:
    """ "laughing", "laughing loudly": what one does, without the one who does it."""
    first, *rest = text.split()
    return captions.is_participle(first) and (not rest or rest[0].endswith("ly") or rest[0] in words.PREPOSITIONS)
