from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from audiogen_cli.config import from_dict, load_toml, nearest, to_dict
from audiogen_cli.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    rates: tuple[int, ...] = (8, 5)
    pair: tuple[float, str] = (1.0, "a")


@dataclass(frozen=True)
class Outer:
    size: int
    mode: Literal["one", "two"] = "one"
    ratio: float = 0.5
    name: str | None = None
    on: bool = False
    extra: dict[str, Any] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("size must not be negative.")


def test_plain_data_and_back() -> None:
    config = Outer(3, "two", 0.25, "x", True, {"a": [1]}, Inner((1, 2, 3), (2.0, "b")))
    assert from_dict(Outer, to_dict(config)) == config


def test_whole_numbers_are_accepted_as_floats_and_nothing_else_is_converted() -> None:
    assert from_dict(Outer, {"size": 1, "ratio": 2}).ratio == 2.0
    for wrong in ({"size": 1.0}, {"size": True}, {"size": "1"}, {"size": 1, "on": 1}, {"size": 1, "ratio": "2"}):
        with pytest.raises(ConfigError, match="expected"):
            from_dict(Outer, wrong)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"size": 1, "ratios": 2.0}, "unknown setting 'ratios'; did you mean 'ratio'?"),
        ({}, "'size' is missing"),
        ({"size": 1, "mode": "three"}, "'three' is not one of 'one', 'two'"),
        ({"size": 1, "inner": {"rates": [1, "2"]}}, "config.inner.rates[1]: expected int, found '2'"),
        ({"size": 1, "inner": {"pair": [1.0]}}, "config.inner.pair"),
        ({"size": -1}, "size must not be negative"),
        ([1], "expected a table"),
    ],
)
def test_what_does_not_fit_is_named(data: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(Outer, data)
    assert message in str(caught.value)


def test_a_recipe_file_is_read_as_strictly(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('size = 4\n[inner]\nrates = [2, 2]\npair = [1, "z"]\n')
    assert load_toml(Outer, recipe) == Outer(4, inner=Inner((2, 2), (1.0, "z")))
    recipe.write_text("size = ")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_toml(Outer, recipe)
    with pytest.raises(ConfigError, match="cannot read the recipe"):
        load_toml(Outer, tmp_path / "absent.toml")


def test_a_word_near_no_known_one_gets_the_whole_list() -> None:
    assert nearest("zzz", ["b", "a"]) == " (known: a, b)"
