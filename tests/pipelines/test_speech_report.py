from audiogen_cli.metrics.words import Errors
from audiogen_cli.pipelines import continuation, intelligibility
from audiogen_cli.pipelines.intelligibility import Example
from audiogen_cli.pipelines.speech_report import Report, markdown


def spoken(name: str, unfinished: float | None = None) -> intelligibility.Row:
    words, letters, other = Errors(10, 1, 1, 0), Errors(40, 2, 1, 1), Errors(10, 9, 0, 1)
    examples = (Example("to these", "two"), Example("he gave", ""))
    return intelligibility.Row(name, 3, 6.25, words, letters, other, 0.5, unfinished, examples)


def continued(name: str, other: float | None) -> continuation.Row:
    return continuation.Row(name, 2, 3.456, other, None if other is None else 0.75, 0.0, 0.125, 0.5, 1.0, 2.5)


def test_every_row_of_words_is_a_line_and_the_last_one_is_quoted() -> None:
    text = markdown(Report("abc", (spoken("recordings"), spoken("said", 0.25))))
    lines = text.splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert table[0][1:4] == ["sounds", "seconds", "words wrong"]
    assert table[2] == ["recordings", "3", "6.2", "20.0 %", "100.0 %", "10.0 %", "50.0 %", ""]
    assert table[3][-1] == "25.0 %"
    assert len({len(line) for line in lines if line.startswith("|")}) == 1
    assert "Of said:" in lines and "- said: to these" in lines and "  heard: (nothing)" in lines


def test_continuations_have_a_table_of_their_own() -> None:
    text = markdown(Report("abc", (), (continued("own", None), continued("continued", 7.891))))
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[0:1] == "|"]
    assert table[2] == ["own", "2", "3.46", "", "", "0.0 %", "12.5 %", "50.0 %", "100.0 %", "2.5"]
    assert table[3][3:5] == ["7.89", "75.0 %"]
    assert "recogniser" not in text
