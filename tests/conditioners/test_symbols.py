import pytest
import torch

from audiogen_cli.conditioners.symbols import Symbols, sentences
from audiogen_cli.errors import InputError


def test_bytes_know_every_text_and_how_it_was_typed_does_not_matter() -> None:
    table = Symbols()
    assert bytes(table("  Caf\u00e9,\n now ").tolist()).decode() == "Caf\u00e9, now"
    assert table("Cafe\u0301").tolist() == table("Caf\u00e9").tolist()
    assert table.size == 256


def test_phonemes_are_numbered_by_the_texts_they_come_from() -> None:
    table = Symbols.of_texts("phonemes", ["HH AH0 L OW1", "OW1 _ K"])
    assert table.names == ("AH0", "HH", "K", "L", "OW1", "_") and table.size == 6
    assert table(" HH  OW1 ").tolist() == [1, 4]
    with pytest.raises(InputError, match="never met 'AH'; did you mean 'AH0'"):
        table("HH AH")


@pytest.mark.parametrize("table", [Symbols(), Symbols("phonemes", ("AH", "HM"))])
def test_two_texts_joined_are_one(table: Symbols) -> None:
    one, none = table("HM AH"), torch.empty(0, dtype=torch.int64)
    assert torch.equal(table.joined(one, table("AH")), table("HM AH AH"))
    assert torch.equal(table.joined(none, one), one) and torch.equal(table.joined(one, none), one)


def test_what_says_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="empty"):
        Symbols()("  \n")
    with pytest.raises(InputError, match="transcripts"):
        Symbols.of_texts("bytes", ["", " "])
    for kind, names in (("bytes", ("a",)), ("phonemes", ()), ("phonemes", ("a", "a"))):
        with pytest.raises(ValueError, match="names"):
            Symbols(kind, names)  # type: ignore[arg-type]


def test_a_long_text_is_cut_where_it_pauses_and_nothing_is_lost() -> None:
    text = "It rained. It rained all day, and all night, and we stayed in! Why not?"
    for most in (200, 60, 30, 12, 1):
        parts = sentences(text, most)
        assert " ".join(parts) == text
        assert all(len(part) <= most or " " not in part for part in parts)
    assert sentences(text, 62) == ["It rained. It rained all day, and all night, and we stayed in!", "Why not?"]
    assert sentences(text, 30)[0] == "It rained. It rained all day,"
