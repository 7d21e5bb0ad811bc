import json

import pytest

from audiogen_cli.data import labelled
from audiogen_cli.errors import InputError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def captions(listing):
    return {recording.path.name: recording.captions for recording in listing.recordings}


@pytest.mark.parametrize(
    ("name", "caption"),
    [
        ("dog_bark-03.wav", "dog bark"),
        ("DogBarking2.WAV", "dog barking"),
        ("007 - Helicopter/1-172649-B.ogg", "helicopter"),
        ("sounds/rain/0001.flac", "rain"),
        ("006217c520c9.opus", ""),
        ("türe.mp3", "türe"),
    ],
)
def test_names_become_captions_when_there_is_nothing_else(tmp_path, name, caption):
    assert labelled.caption_from_name(tmp_path / name, tmp_path) == caption
    touch(tmp_path, name)
    listing = labelled.find(tmp_path)
    assert [r.captions for r in listing.recordings] == ([(caption,)] if caption else [])
    assert len(listing.problems) == (not caption)


def test_sidecars_win_over_names(tmp_path):
    touch(tmp_path, "a.wav", "b.wav", "c.wav", "d.wav", "e.wav", ".hidden.wav", "notes.pdf")
    (tmp_path / "a.txt").write_text("a dog barking\n\ndog barks\n")
    (tmp_path / "b.json").write_text(json.dumps({"description": "rain", "key": "C"}))
    (tmp_path / "c.json").write_text(json.dumps({"description": ["wind", "wind blowing"]}))
    (tmp_path / "d.json").write_text("{")
    listing = labelled.find(tmp_path)
    assert captions(listing) == {
        "a.wav": ("a dog barking", "dog barks"),
        "b.wav": ("rain",),
        "c.wav": ("wind", "wind blowing"),
    }
    assert {p.path.rsplit("/")[-1] for p in listing.problems} == {"d.wav", "e.wav"}


def test_a_table_is_read_with_its_sources_and_its_split(tmp_path):
    touch(tmp_path, "A/x.opus", "y.opus")
    (tmp_path / "list.csv").write_text(
        'file,caption,license,tier,package,split\nA/x.opus,"a dog, barking",CC0,A,pkg,validation\n'
        "y.opus,rain,,,,\ngone.wav,x,,,,\n,x,,,,\n"
    )
    listing = labelled.find(tmp_path, tmp_path / "list.csv")
    one, two = listing.recordings
    assert one == labelled.Labelled(tmp_path / "A/x.opus", ("a dog, barking",), "pkg", "CC0", "valid", "A")
    assert two == labelled.Labelled(tmp_path / "y.opus", ("rain",))
    assert [p.path for p in listing.problems] == ["gone.wav", "list.csv, entry 4"]


def test_other_peoples_tables_work_as_they_are(tmp_path):
    touch(tmp_path, "x.wav", "y.wav")
    (tmp_path / "metadata.csv").write_text("﻿file_name,caption_1,caption_2\nx.wav,rain,rain falls\n", encoding="utf-8")
    assert captions(labelled.find(tmp_path)) == {"x.wav": ("rain", "rain falls")}  # found by its name
    (tmp_path / "l.jsonl").write_text('{"path": "y", "text": "wind"}\n\n{"path": "y", "text": "windy"}\n')
    assert captions(labelled.find(tmp_path, tmp_path / "l.jsonl")) == {"y.wav": ("wind", "windy")}


def test_what_cannot_be_used_is_said_in_a_sentence(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        labelled.find(tmp_path / "none")
    with pytest.raises(InputError, match="holds no recordings"):
        labelled.find(tmp_path)
    for name, text, match in [
        ("a.csv", "a,b\n1,2\n", "header with a 'file'"),
        ("b.csv", "", "header with a 'file'"),
        ("c.jsonl", "{", "not JSONL"),
        ("d.jsonl", "3\n", "no JSON object"),
    ]:
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=match):
            labelled.find(tmp_path, tmp_path / name)
    with pytest.raises(InputError, match="cannot read"):
        labelled.find(tmp_path, tmp_path / "none.csv")
