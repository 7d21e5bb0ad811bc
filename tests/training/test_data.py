import json
from pathlib import Path

import pytest
import torch

from audiogen_cli.data import audio
from audiogen_cli.errors import InputError
from audiogen_cli.training import data


def write(path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, torch.rand(1, int(8_000 * seconds)) - 0.5, 8_000)


def test_a_plain_folder_is_split_by_its_folders_and_lengths_are_measured(tmp_path: Path) -> None:
    for source in "abcdefghij":
        for number in (1, 2):
            write(tmp_path / source / f"dog bark {number}.wav", 0.5)
    sets = data.load(data.find_clips(tmp_path, fraction=0.2), 16_000, 1)
    assert len(sets.train.clips) == 16 and len(sets.valid.clips) == 4
    assert not {clip.source for clip in sets.train.clips} & {clip.source for clip in sets.valid.clips}
    assert sets.train.clips[0].caption == "dog bark" and sets.train.clips[0].seconds == 0.5
    assert sets.train.recordings[0].shape == (1, 8_000)


def test_a_prepared_folder_keeps_its_split_and_its_tiers_can_be_chosen(tmp_path: Path) -> None:
    rows = [("a.wav", "A", "train"), ("b.wav", "B", "train"), ("c.wav", "A", "valid")]
    lines = []
    for name, tier, split in rows:
        write(tmp_path / name, 0.2)
        lines.append({"path": name, "caption": name, "seconds": 0.2, "source": name, "tier": tier, "split": split})
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    sets = data.load(data.find_clips(tmp_path, tiers=["A"]), 8_000, 1)
    assert [clip.caption for clip in sets.train.clips] == ["a.wav"]
    assert [clip.caption for clip in sets.valid.clips] == ["c.wav"]
    with pytest.raises(InputError, match="of tier C"):
        data.find_clips(tmp_path, tiers=["C"])


def test_without_held_out_recordings_the_first_ones_stand_in(tmp_path: Path) -> None:
    write(tmp_path / "one sound.wav", 0.2)
    sets = data.load(data.find_clips(tmp_path), 8_000, 1)
    assert [c.caption for c in sets.valid.clips] == ["one sound"]


def test_recordings_that_nothing_names_are_found_where_captions_are_not_needed(tmp_path: Path) -> None:
    for number in range(3):
        audio.write(tmp_path / f"{number}.wav", torch.zeros(1, 100), 8_000)
    assert len(data.find_clips(tmp_path, uncaptioned=True)) == 3
    with pytest.raises(InputError, match="no recordings"):
        data.find_clips(tmp_path)
