import json

import pytest

from audiogen_cli.data import manifest
from audiogen_cli.data.manifest import Clip
from audiogen_cli.errors import InputError, OutputError


def clips(sources=20, each=3, seconds=2.0):
    return [Clip(f"{s}-{i}.wav", "a dog barking", seconds, f"source {s}") for s in range(sources) for i in range(each)]


def test_a_manifest_read_again_is_the_same_with_its_paths_made_whole(tmp_path):
    near = Clip(str(tmp_path / "A" / "x.opus"), "a döner sizzling", 1.5, "s", "CC0-1.0", "valid", "A", ("meat",))
    far = Clip("/elsewhere/y.opus", "rain", 2.0, "t")
    manifest.write(tmp_path / "m.jsonl", [near, far])
    assert manifest.read(tmp_path / "m.jsonl") == [near, far]
    first = json.loads((tmp_path / "m.jsonl").read_text().splitlines()[0])
    assert first["path"] == "A/x.opus"  # the folder can be moved as a whole


def test_no_source_is_on_both_sides_of_the_split():
    done = manifest.split_by_source(clips(), 0.1)
    sides = {split: {c.source for c in manifest.select(done, split)} for split in ("train", "valid")}
    assert not sides["train"] & sides["valid"]
    share = sum(c.seconds for c in manifest.select(done, "valid")) / sum(c.seconds for c in done)
    assert 0.05 <= share <= 0.15


def test_the_split_does_not_depend_on_the_order_of_the_clips():
    def valid(items):
        return {c.path for c in manifest.select(manifest.split_by_source(items, 0.2), "valid")}

    assert valid(clips()) == valid(clips()[::-1])


def test_one_source_is_all_for_training_and_a_huge_one_is_never_held_out():
    assert not manifest.select(manifest.split_by_source(clips(sources=1), 0.1), "valid")
    assert not manifest.select(manifest.split_by_source(clips(), 0.0), "valid")
    huge = [Clip("a.wav", "rain", 1000.0, "huge"), *clips(sources=30, each=1)]
    assert "huge" not in {c.source for c in manifest.select(manifest.split_by_source(huge, 0.05), "valid")}


def test_selection_by_tier_keeps_only_the_licences_asked_for():
    mixed = [Clip("a", "x", 1.0, "s", tier="A"), Clip("b", "x", 1.0, "s", tier="B"), Clip("c", "x", 1.0, "s")]
    assert [c.path for c in manifest.select(mixed, tiers=("A",))] == ["a"]


def test_bad_manifests_are_named_with_the_line(tmp_path):
    path = tmp_path / "m.jsonl"
    with pytest.raises(InputError, match="audiolm prepare"):
        manifest.read(path)
    manifest.write(path, clips(1, 1))
    with pytest.raises(OutputError, match="--force"):
        manifest.write(path, [])
    for line, match in [("{", "line 2 is not JSON"), ('{"path": "a"}', "line 2"), ("[]", "line 2")]:
        path.write_text(json.dumps({"path": "a", "caption": "b", "seconds": 1, "source": "s"}) + "\n" + line)
        with pytest.raises(InputError, match=match):
            manifest.read(path)
