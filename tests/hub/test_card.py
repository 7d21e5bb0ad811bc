"""model.json: numbers that make no sense are refused."""

import pytest

from audiogen_cli.hub.card import ModelCard


@pytest.mark.parametrize(
    "wrong", [{"seconds": 0}, {"extend_stride": -1}, {"lanes": 0}, {"window_seconds": 0}, {"candidates": 0}]
)
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="correct"):
        ModelCard("name", **wrong)  # type: ignore[arg-type]
