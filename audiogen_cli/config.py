"""Frozen dataclasses to plain JSON or TOML data and back, strict about every key and type.

    config = from_dict(RVQConfig, {"num_codebooks": 4})     # unknown or missing key, wrong type: ConfigError
    to_dict(config)                                         # plain dicts, lists, numbers and strings

A field may be bool, int, float, str, None, a Literal, a tuple, a dict[str, ...], a union of these, or a dataclass.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from audiogen_cli.errors import ConfigError

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """The plain data of a dataclass instance, as JSON holds it (tuples become lists)."""
    data: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return data


def from_dict(cls: type[T], data: Mapping[str, Any], where: str = "config") -> T:
    """Builds `cls` from plain data.

    Raises ConfigError for an unknown key (with the nearest known one), a missing key or a value of the wrong type,
    and for what the dataclass's own `__post_init__` refuses with a ValueError.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected a table of settings, found {data!r}.")
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, cls)) if field.init}
    for key in data:
        if key not in fields:
            raise ConfigError(f"{where}: unknown setting '{key}'{nearest(key, fields)}.")
    hints = typing.get_type_hints(cls)
    values = {key: _parse(hints[key], value, f"{where}.{key}") for key, value in data.items()}
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ConfigError(f"{where}: the setting '{name}' is missing; add it.")
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def nearest(word: str, known: typing.Iterable[str]) -> str:
    """`; did you mean 'x'?` when one of the known words is close, else a list of them."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f" (known: {', '.join(known)})"


def load_toml(cls: type[T], path: str | os.PathLike[str]) -> T:
    """Reads a recipe file; raises ConfigError when it cannot be read, is not TOML, or does not fit `cls`."""
    path = Path(path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the recipe {path}: {error.strerror or error}; check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error
    return from_dict(cls, data, where=path.name)


def _parse(kind: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return from_dict(typing.cast(type, kind), value, where)
    if origin in (types.UnionType, typing.Union):
        return _parse_union(args, value, where)
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"{where}: {value!r} is not one of {', '.join(map(repr, args))}.")
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        inner = args[:1] * len(value) if args[-1] is Ellipsis else args
        if len(inner) == len(value):
            return tuple(_parse(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(inner, value, strict=True)))
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _parse(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and origin is None and type(value) is kind:
        return value
    if kind is type(None) and value is None:
        return None
    name = getattr(kind, "__name__", str(kind)) if origin is None else str(kind)
    raise ConfigError(f"{where}: expected {name}, found {value!r}.")


def _parse_union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    errors = []
    for arg in args:
        try:
            return _parse(arg, value, where)
        except ConfigError as error:
            errors.append(error)
    raise errors[0]
