"""Downloads from a Hub on this machine: what is taken, what is resumed, what is refused."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from audiogen_cli.errors import CheckpointError, ModelError, OutputError
from audiogen_cli.hub import download
from audiogen_cli.hub.download import Fetch

REPO = "facebook/audiogen-medium"
BIG = os.urandom(300_000)
FILES = {
    "README.md": b"---\nlibrary_name: audiocraft\nlicense: cc-by-nc-4.0\n---\n# AudioGen\n",
    "config.json": b"{}",
    "compression_state_dict.bin": b"codec",
    "state_dict.bin": BIG,
    "model.safetensors": b"the same again",
    "pytorch_model.bin": b"and again",
}


@pytest.fixture
def served(hub: Any) -> Any:
    hub.repos[REPO] = dict(FILES)
    return hub


def asked(hub: Any) -> list[str]:
    return [path.rpartition("/")[2] for method, path, _ in hub.log if method == "GET" and "/resolve/" in path]


def test_only_what_is_needed_is_fetched_into_the_standard_cache(served: Any, tmp_path: Path) -> None:
    events: list[Fetch] = []
    folder = download.fetch(REPO, listener=events.append)
    assert asked(served) == ["README.md", "compression_state_dict.bin", "state_dict.bin"]
    home = tmp_path / "cache" / "models--facebook--audiogen-medium"
    assert folder == home / "snapshots" / served.COMMIT
    assert (home / "refs" / "main").read_text() == served.COMMIT
    assert (folder / "state_dict.bin").read_bytes() == BIG
    assert (folder / "state_dict.bin").resolve() == home / "blobs" / hashlib.sha256(BIG).hexdigest()
    total = len(BIG) + len(FILES["README.md"]) + 5
    assert (events[0].done, events[-1].done, events[-1].total) == (0, total, total)
    assert events[0].licence == "CC-BY-NC-4.0" == download.licence(folder)
    assert [event.done for event in events] == sorted(event.done for event in events)


def test_huggingface_hub_finds_what_was_fetched(served: Any, tmp_path: Path) -> None:
    import huggingface_hub

    download.fetch(REPO)
    path = huggingface_hub.try_to_load_from_cache(REPO, "state_dict.bin", cache_dir=tmp_path / "cache")
    assert isinstance(path, str) and Path(path).read_bytes() == BIG
    [repo] = huggingface_hub.scan_cache_dir(tmp_path / "cache").repos
    assert repo.repo_id == REPO


def test_what_is_there_needs_no_network(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = download.fetch(REPO)
    served.log.clear()
    assert download.fetch(REPO) == folder and not served.log
    assert download.fetch(REPO, served.COMMIT) == folder
    assert download.fetch(REPO, refresh=True) == folder and asked(served) == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert download.fetch(REPO) == folder


def test_a_connection_that_breaks_is_taken_up_again(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 16_384)
    served.cut["state_dict.bin"] = 100_000
    assert (download.fetch(REPO) / "state_dict.bin").read_bytes() == BIG
    ranges = [span for method, path, span in served.log if method == "GET" and path.endswith("/state_dict.bin")]
    assert ranges[0] is None and int(str(ranges[1]).removeprefix("bytes=").rstrip("-")) > 0


def test_a_run_that_was_stopped_goes_on_where_it_was(served: Any, tmp_path: Path) -> None:
    def stop(event: Fetch) -> None:
        if event.done > 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download.fetch(REPO, listener=stop)
    assert download.cached(REPO) is None
    [partial] = (tmp_path / "cache").rglob("*.incomplete")
    partial.write_bytes(BIG[:123_456])
    served.log.clear()
    assert (download.fetch(REPO) / "state_dict.bin").read_bytes() == BIG
    assert [span for method, _, span in served.log if method == "GET" and span] == ["bytes=123456-"]
    assert not list((tmp_path / "cache").rglob("*.incomplete"))


def test_what_arrives_damaged_is_thrown_away(served: Any, tmp_path: Path) -> None:
    served.lies.add("state_dict.bin")
    with pytest.raises(CheckpointError, match=r"arrived damaged: .*fetch the model again"):
        download.fetch(REPO)
    assert download.cached(REPO) is None and not list((tmp_path / "cache").rglob("*.incomplete"))
    served.lies.clear()
    assert (download.fetch(REPO) / "state_dict.bin").read_bytes() == BIG


def test_what_cannot_be_had_is_one_sentence(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"no repository of that name"):
        download.fetch("facebook/nothing")
    with pytest.raises(ModelError, match=r"has no revision 'v9'"):
        download.fetch(REPO, "v9")
    served.repos["some/thing"] = {"pytorch_model.bin": b"", "config.json": b"{}"}
    with pytest.raises(ModelError, match="no model in a layout"):
        download.fetch("some/thing")
    served.gated.add(REPO)
    with pytest.raises(ModelError, match=rf"is gated: accept its terms at http.*{REPO} and set HF_TOKEN"):
        download.fetch(REPO)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert download.fetch(REPO).is_dir()


def test_without_a_network_the_sentence_says_how_to_go_on(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"cannot fetch facebook/x .*audiolm models pull facebook/x"):
        download.fetch("facebook/x")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE forbids"):
        download.fetch("facebook/x")


def test_a_cache_that_cannot_be_written_is_one_sentence(served: Any, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OutputError, match="cannot write to the cache"):
        download.fetch(REPO)


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert download.cache_folder() == Path.home() / ".cache" / "huggingface" / "hub"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert download.cache_folder() == Path("/x/huggingface/hub")
    monkeypatch.setenv("HF_HOME", "/h")
    assert download.cache_folder() == Path("/h/hub")
    monkeypatch.setenv("HF_HUB_CACHE", "/c")
    assert download.cache_folder() == Path("/c")


def test_layouts_and_what_they_need() -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = "model.safetensors.index.json"
    assert download.needed(["config.json", "x.bin", *shards, index]) == ["config.json", index, *shards]
    assert download.needed(["config.json", "tokenizer.json", "spiece.model", "model.safetensors", "tf_model.h5"]) == [
        "config.json",
        "tokenizer.json",
        "model.safetensors",
    ]
    ours = ["model.json", "lm/config.json", "lm/model.safetensors", "text/tokenizer.json", "codec/config.json"]
    assert download.needed([*ours, "codec/evil.py"])[-1] == "lm/model.safetensors"
    assert download.needed([*ours, "codec/evil.py"]) is not None and "codec/evil.py" not in download.needed(
        [*ours, "codec/evil.py"]
    )
    assert "words.txt" in (download.needed([*ours, "words.txt"]) or [])
    assert "flow/model.safetensors" in (download.needed(["flow/config.json", "flow/model.safetensors"]) or [])
    assert download.needed(["README.md", "state_dict.bin"]) is None


def test_a_sharded_model_is_there_when_all_shards_are(hub: Any, tmp_path: Path) -> None:
    shards = {f"model-0000{i}-of-00002.safetensors": bytes([i]) for i in (1, 2)}
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = str({"weight_map": names}).replace("'", '"').encode()
    hub.repos["some/one"] = {"config.json": b"{}", "model.safetensors.index.json": index, **shards}
    folder = download.fetch("some/one")
    assert download.cached("some/one") == folder
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert download.cached("some/one") is None


def test_what_is_cached_can_be_listed_and_removed(served: Any, tmp_path: Path) -> None:
    download.fetch(REPO)
    [found] = download.everything()
    assert (found.repo, found.size > len(BIG)) == (REPO, True)
    assert download.remove(REPO) == found.size
    assert download.everything() == []
    with pytest.raises(ModelError, match="is not in the cache"):
        download.remove(REPO)
