"""Finding a model, and refusing parts that do not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from audiogen_cli.errors import CheckpointError, InputError, ModelError
from audiogen_cli.hub import catalog, shelf
from audiogen_cli.hub.card import ModelCard


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


def edit(path: Path, change: Callable[[dict], None]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_a_bundled_name_and_its_folder_are_the_same_model(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "SHELVES", (tiny_model.parent,))
    assert list(catalog.bundled()) == ["tiny"]
    assert catalog.find("tiny").hash == catalog.find(tiny_model).hash


def test_the_installed_shelf_comes_before_the_clones(
    tiny_model: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = copy.parent / "installed"
    shutil.copytree(copy, first / "tiny")
    monkeypatch.setattr(catalog, "SHELVES", (first, tiny_model.parent))
    assert catalog.find("tiny").folder == first / "tiny"


def test_an_unknown_name_gets_the_nearest_known_one(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "SHELVES", (tiny_model.parent,))
    with pytest.raises(ModelError, match="there is no model 'tny'; did you mean 'tiny'"):
        catalog.find("tny")


def test_an_unfinished_bundled_model_is_in_nobodys_way(
    tiny_model: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(copy / "lm")
    monkeypatch.setattr(catalog, "SHELVES", (tiny_model.parent, copy.parent))
    assert list(catalog.bundled()) == ["tiny"]
    assert catalog.find(tiny_model).card.name == "tiny"
    with pytest.raises(ModelError, match="it has no folder lm"):
        catalog.find("copy")


def test_a_loaded_model_has_all_its_parts(tiny_model: Path) -> None:
    model = catalog.load(tiny_model)
    assert (model.name, model.licence, model.sample_rate, model.window_frames) == ("tiny", "MIT", 8000, 50)
    assert (model.sampling.top_k, model.sampling.guidance) == (8, 2.0)
    assert not model.lm.training and not model.codec.training
    assert catalog.load(tiny_model, dtype="bfloat16").lm.out_norm.weight.dtype.itemsize == 2


def test_a_folder_without_a_card_takes_its_own_name(copy: Path) -> None:
    (copy / "model.json").unlink()
    assert catalog.find(copy).card == ModelCard("copy")


def test_the_hash_names_what_decides_the_sound(tiny_model: Path, copy: Path) -> None:
    original = catalog.find(tiny_model).hash
    edit(copy / "model.json", lambda card: card.update(description="better words"))
    assert catalog.find(copy).hash == original
    edit(copy / "model.json", lambda card: card.update(lanes=7))
    assert catalog.find(copy).hash != original
    edit(copy / "model.json", lambda card: card.update(lanes=2))
    weights = copy / "lm" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert catalog.find(copy).hash != original


def test_the_hash_names_the_vocoder_that_the_codec_borrows(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, vocoder = catalog.find(copy).hash, copy.parent / "shelf" / shelf.VOCODER
    vocoder.mkdir(parents=True)
    monkeypatch.setattr(shelf, "SHELVES", (copy.parent / "shelf",))
    (vocoder / "model.safetensors").write_bytes(b"one")
    assert catalog.find(copy).hash == original
    edit(copy / "codec" / "config.json", lambda header: header.update(kind="mel"))
    borrowing = catalog.find(copy).hash
    (vocoder / "model.safetensors").write_bytes(b"two")
    assert len({original, borrowing, catalog.find(copy).hash}) == 3


def test_a_lexicon_is_a_part_that_may_be_there(tiny_model: Path, copy: Path) -> None:
    (copy / "words.txt").write_text("a dog: mutt\n")
    assert catalog.find(copy).hash != catalog.find(tiny_model).hash
    assert catalog.load(copy).heard("a mutt") == "a dog"
    assert catalog.load(tiny_model).heard("a mutt") == "a mutt"
    assert catalog.load(copy).heard(None) is None


def test_a_scorer_is_a_part_that_may_be_there(tiny_model: Path, scored_model: Path) -> None:
    plain, scored = catalog.load(tiny_model), catalog.load(scored_model)
    assert plain.clap is None and scored.clap is not None and scored.clap is scored.clap
    assert plain.hash != scored.hash
    assert (catalog.find(tiny_model).scored, catalog.find(scored_model).scored) == (False, True)


def test_a_judge_is_a_part_that_may_be_there(painted_model: Path, judged_model: Path) -> None:
    plain, judged = catalog.load(painted_model), catalog.load(judged_model)
    assert plain.judge is None and judged.judge is not None and judged.judge is judged.judge
    assert plain.hash != judged.hash


def test_candidates_without_a_scorer_are_refused(copy: Path) -> None:
    edit(copy / "model.json", lambda card: card.update(candidates=4))
    with pytest.raises(ModelError, match="no scorer"):
        catalog.find(copy)


def test_a_codec_in_the_place_of_the_language_model_is_refused(copy: Path) -> None:
    shutil.rmtree(copy / "lm")
    shutil.copytree(copy / "codec", copy / "lm")
    with pytest.raises(CheckpointError):
        catalog.load(copy)


def test_what_is_no_model_is_refused(copy: Path) -> None:
    with pytest.raises(ModelError, match="is a file"):
        catalog.find(copy / "model.json")
    edit(copy / "model.json", lambda card: card.update(licens="MIT"))
    with pytest.raises(ModelError, match="did you mean 'licence'"):
        catalog.find(copy)
    shutil.rmtree(copy / "text")
    with pytest.raises(ModelError, match="no folder text"):
        catalog.find(copy)


def test_devices_and_numbers_are_chosen_by_what_is_there() -> None:
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no cuda device"):
            catalog.resolve_device("cuda")
    assert catalog.resolve_device("cpu") == "cpu"
    assert catalog.resolve_device("auto") in ("cuda", "mps", "cpu")
    assert [catalog.resolve_dtype("auto", d) for d in ("cpu", "mps", "cuda")] == ["float32", "float32", "bfloat16"]
    assert catalog.resolve_dtype("float16", "cpu") == "float16"


def test_a_codec_alone_is_an_entry_that_generates_nothing(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model / "codec", tmp_path / "small" / "codec")
    with pytest.raises(ModelError, match="no folder lm"):
        catalog.find(tmp_path / "small")
    (tmp_path / "small" / "model.json").write_text('{"name": "small"}')
    entry = catalog.find(tmp_path / "small")
    assert entry.is_codec and not entry.staged and not entry.speaks and len(entry.hash) == 12
    with pytest.raises(ModelError, match="speaks no language"):
        catalog.load(entry)
    assert not catalog.find(tiny_model).is_codec


def test_the_bundled_codec_is_there() -> None:
    assert catalog.bundled()[catalog.DEFAULT_CODEC].is_codec
    assert catalog.DEFAULT_MODEL in catalog.bundled()
