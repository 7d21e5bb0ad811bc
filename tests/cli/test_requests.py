"""What is to be made, and where it goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from audiogen_cli.cli import requests
from audiogen_cli.cli.requests import Row, expand, slug
from audiogen_cli.errors import InputError, OutputError


def test_a_name_is_made_of_the_words_of_the_prompt() -> None:
    assert slug("Dog barking, in rain!") == "dog-barking-in-rain"
    assert slug("../../etc/passwd") == "etc-passwd"
    assert slug("犬が吠える") == "犬が吠える"
    assert slug("!?") == "sound"
    assert len(slug("犬" * 500).encode()) <= 120


def test_seeds_count_up_and_a_prompt_that_comes_again_counts_on() -> None:
    rows = [Row("dog"), Row("rain", seed=50), Row("Dog!")]
    found = [(r.stem, r.seed) for r in expand(rows, 1.0, 5, 2)]
    assert found == [("dog", 5), ("dog", 6), ("rain", 50), ("rain", 51), ("dog", 7), ("dog", 8)]


def test_a_place_is_a_folder_or_one_file_or_stdout(tmp_path: Path) -> None:
    assert requests.destination(None, 5, "flac") == (Path("."), None, "flac")
    assert requests.destination(str(tmp_path), 5, None) == (tmp_path, None, "wav")
    assert requests.destination(str(tmp_path / "a.ogg"), 1, None) == (tmp_path, "a.ogg", "ogg")
    assert requests.destination("plain", 1, "wav") == (Path("."), "plain", "wav")
    assert requests.destination("-", 1, None) == (None, None, "wav")
    for output, count, wanted in (("a.wav", 2, None), ("a.wav", 1, "ogg"), ("-", 1, "ogg"), ("a", 1, None)):
        with pytest.raises(OutputError):
            requests.destination(output, count, wanted)  # type: ignore[arg-type]


def test_two_requests_of_one_name_get_two_files() -> None:
    taken: set[str] = set()
    assert [requests._free_name("a", ".wav", taken) for _ in range(3)] == ["a.wav", "a-2.wav", "a-3.wav"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.csv", "a,b\n1,2\n", "no 'prompt'"),
        ("p.csv", "prompt,seed\nrain,x\n", "'x' is no number"),
        ("p.jsonl", "[1]\n", "expected an object"),
        ("p.jsonl", "{\n", "not valid JSON"),
        ("p.jsonl", '{"prompt": "rain", "seconds": "long"}\n', "line 1.seconds"),
        ("p.jsonl", '{"prompt": " "}\n', "the prompt is empty"),
        ("p.txt", "x" * 5000, "shorten it"),
    ],
)
def test_a_bad_line_of_a_prompts_file_is_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        requests.read_prompts(tmp_path / name)


def test_batches_hold_neighbours_of_equal_length() -> None:
    place = requests.Destination(None, None, "wav")
    settings = requests.Settings(
        "generate", 3.0, 1.0, 250, 0.0, "none", 0.0, "wav", "16", "m", "h", "cpu", "float32", "0"
    )
    rows = [Row("a"), Row("b", seconds=2.0), Row("c"), Row("d"), Row("e")]
    jobs = requests.plan(expand(rows, 1.0, 0, 1), place, settings)
    batches = [[job.recipe.prompt for job in batch] for batch in requests.batches(jobs, 2)]
    assert batches == [["a"], ["b"], ["c", "d"], ["e"]]


def test_a_batch_holds_so_many_candidates_but_one_job_at_least() -> None:
    place = requests.Destination(None, None, "wav")
    settings = requests.Settings(
        "generate", 3.0, 1.0, 250, 0.0, "none", 0.0, "wav", "16", "m", "h", "cpu", "float32", "0"
    )
    rows = [Row("a"), Row("b"), Row("c"), Row("d", candidates=8), Row("e", candidates=9), Row("f", candidates=1)]
    jobs = requests.plan(expand(rows, 1.0, 0, 1, candidates=3), place, settings)
    batches = [[job.recipe.prompt for job in batch] for batch in requests.batches(jobs, 8)]
    assert batches == [["a", "b"], ["c"], ["d"], ["e"], ["f"]]
