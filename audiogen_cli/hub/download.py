"""From a repository on the Hub to a folder in the standard cache: only the files that are needed, checked, resumed.

    <cache>/models--owner--name/{blobs/<etag>, snapshots/<commit>/<file> -> blob, refs/<revision>}

It is the cache of huggingface_hub, so that other programs find the same files. What is there in full is used without
asking the network. A download that is cut leaves <etag>.incomplete, and the next one goes on from there (the library's
own starts anew); a file gets its name only when its sha256 is the one that the Hub announces. HF_HOME, HF_HUB_CACHE,
HF_HUB_OFFLINE, HF_ENDPOINT and HF_TOKEN mean what they mean everywhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlparse

from audiogen_cli.conditioners import lexicon
from audiogen_cli.errors import CheckpointError, ModelError, OutputError

NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_AUDIOCRAFT = ("compression_state_dict.bin", "state_dict.bin")
_MAKERS = ("lm", "flow")  # the parts one of which makes a model ours, hub/catalog.py
_OURS = re.compile(r"(codec|lm|flow|text|clap|judge)/[\w.-]+\.(json|safetensors)")
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_INDEX = "model.safetensors.index.json"
_WEIGHTS = "model.safetensors"
_OF_OURS = ("model.json", lexicon.NAME)
_BESIDE = ("README.md", "config.json", "generation_config.json", "tokenizer.json")


@dataclass(frozen=True)
class Fetch:
    """How far a download is. licence: what the repository says, or None; done and total: bytes of all its files."""

    repo: str
    licence: str | None
    done: int
    total: int


Listener = Callable[[Fetch], None]


@dataclass(frozen=True)
class Cached:
    """A repository that is in the cache, with the bytes it takes there."""

    repo: str
    folder: Path
    size: int


def cache_folder() -> Path:
    """Where the Hub's programs keep their downloads."""
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if named:
        return Path(named).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def cached(repo: str, revision: str | None = None) -> Path | None:
    """The snapshot in the cache, if every file that is needed lies there."""
    home = _home(repo)
    commit = revision or "main"
    with contextlib.suppress(OSError):
        commit = (home / "refs" / commit).read_text(encoding="utf-8").strip()
    folder = home / "snapshots" / commit
    return folder if _complete(folder) else None


def fetch(repo: str, revision: str | None = None, listener: Listener | None = None, refresh: bool = False) -> Path:
    """The folder with the repository's files; downloads what is missing.

    refresh: ask the Hub for the revision's newest commit even if one is there. Raises ModelError when there is no such
    repository, it is closed, or no network, CheckpointError when what arrives is not what was announced.
    """
    found = cached(repo, revision)
    if found is not None and not refresh:
        return found
    name = repo + (f"@{revision}" if revision else "")
    if offline():
        raise ModelError(
            f"{name} is not in the cache {cache_folder()}, and HF_HUB_OFFLINE forbids to fetch it; unset that and run "
            f"`audiolm models pull {name}`."
        )
    with _quiet(), _explained(name):
        return _download(repo, revision or "main", listener or (lambda _: None))


def there(repo: str, revision: str | None = None) -> Path:
    """The folder in the cache. Raises ModelError when it is not there in full; asks no network."""
    found = cached(repo, revision)
    if found is None:
        raise ModelError(f"{repo} is not in the cache {cache_folder()}; fetch it with `audiolm models pull`.")
    return found


def everything() -> list[Cached]:
    """The repositories in the cache, by name."""
    homes = sorted(cache_folder().glob("models--*--*"))
    return [Cached(_repo_of(home), home, _size(home)) for home in homes if (home / "snapshots").is_dir()]


def remove(repo: str) -> int:
    """Takes a repository out of the cache; returns the bytes that it took. Raises ModelError when it is not there."""
    home = _home(repo)
    if not home.is_dir():
        raise ModelError(f"{repo} is not in the cache {cache_folder()}; `audiolm models list` shows what is.")
    size = _size(home)
    try:
        shutil.rmtree(home)
    except OSError as error:
        raise OutputError(f"cannot remove {home}: {error.strerror or error}; check who owns it.") from error
    return size


def licence(folder: Path) -> str | None:
    """What the repository's README.md says in its head, as `CC-BY-NC-4.0`."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    head = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    line = re.search(r"^licen[sc]e:\s*(\S+)", head[1], re.MULTILINE) if head else None
    return line[1].strip("\"'").upper() if line else None


def needed(files: Collection[str]) -> list[str] | None:
    """Of a repository's files those that are read, weights last; None when it is in no layout that is known.

    Where several layouts lie beside each other, one is enough: ours, then AudioCraft's, then transformers'.
    """
    beside = [name for name in _BESIDE if name in files]
    if any(f"{maker}/config.json" in files for maker in _MAKERS):
        ours = [name for name in files if name in _OF_OURS or _OURS.fullmatch(name)]
        return sorted(ours, key=lambda name: (name.endswith(_WEIGHTS), name))
    if set(_AUDIOCRAFT) <= set(files):
        return [*(name for name in beside if name == "README.md"), *_AUDIOCRAFT]
    if "config.json" not in files:
        return None
    if _WEIGHTS in files:
        return [*beside, _WEIGHTS]
    if _INDEX in files:
        return [*beside, _INDEX, *sorted(name for name in files if _SHARD.fullmatch(name))]
    return None


def content_key(path: Path) -> str:
    """What names a file's content: its blob's name where that is a sha256, or else the sha256 of its bytes."""
    blob = path.resolve().name
    if path.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", blob):
        return blob
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _home(repo: str) -> Path:
    return cache_folder() / f"models--{repo.replace('/', '--')}"


def _repo_of(home: Path) -> str:
    return home.name.removeprefix("models--").replace("--", "/", 1)


def _size(home: Path) -> int:
    """Symlinks count for nothing: the blob that they lead to is counted where it lies."""
    return sum(path.stat().st_size for path in home.rglob("*") if path.is_file() and not path.is_symlink())


def _complete(folder: Path) -> bool:
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    names = needed(there)
    if names is None:
        return False
    if _INDEX in names:
        with contextlib.suppress(OSError, ValueError, KeyError, AttributeError):
            listed = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values()
            return set(listed) <= there
        return False
    if names[-1] == _WEIGHTS and "tokenizer.json" not in names and not _is_codec(folder):
        return False
    makers = {maker for maker in _MAKERS if f"{maker}/config.json" in names}
    if makers:
        return {f"{part}/{_WEIGHTS}" for part in {"codec", "text"} | makers} <= there
    return True


def _is_codec(folder: Path) -> bool:
    """The one kind of model that needs no tokenizer."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        kind: object = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
        return kind == "encodec"
    return False


def _download(repo: str, revision: str, listener: Listener) -> Path:
    import huggingface_hub as hub

    token = os.environ.get("HF_TOKEN") or None
    info = hub.HfApi(endpoint=endpoint(), token=token).model_info(repo, revision=revision, files_metadata=True)
    files = {entry.rfilename: entry for entry in info.siblings or []}
    names = needed(files.keys())
    if names is None:
        raise ModelError(
            f"{repo} holds no model in a layout that is read here (AudioCraft's two files, transformers' config.json "
            "with safetensors, or our own); name another repository."
        )
    folder = _home(repo) / "snapshots" / str(info.sha)
    missing = [name for name in names if not (folder / name).is_file()]
    total = sum(files[name].size or 0 for name in missing)
    terms = getattr(info.card_data, "license", None) if info.card_data else None
    done = 0
    for name in missing:
        before = done

        def report(size: int, before: int = before) -> None:
            listener(Fetch(repo, str(terms).upper() if terms else None, before + size, total))

        report(0)
        entry = files[name]
        _fetch_file(repo, name, str(info.sha), entry.lfs.sha256 if entry.lfs else None, token, report)
        done += entry.size or 0
    _write(_home(repo) / "refs" / revision, str(info.sha))
    return folder


def _fetch_file(
    repo: str, name: str, commit: str, sha256: str | None, token: str | None, report: Callable[[int], None]
) -> None:
    """One file to its blob and the snapshot's link to it."""
    import huggingface_hub as hub
    from huggingface_hub.file_download import http_get

    tools: Any = importlib.import_module("huggingface_hub.utils")
    url = hub.hf_hub_url(repo, name, revision=commit, endpoint=endpoint())
    facts = hub.get_hf_file_metadata(url, token=token, endpoint=endpoint())
    headers = tools.build_hf_headers(token=token)
    if urlparse(facts.location).netloc != urlparse(url).netloc:
        headers.pop("authorization", None)  # the Hub's token is none of its storage's business
    blob = _home(repo) / "blobs" / (sha256 or str(facts.etag))
    if not blob.is_file():
        partial = blob.with_name(blob.name + ".incomplete")
        partial.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "ab") as file:
            watched: Any = _Watched(file, report)
            http_get(facts.location, watched, resume_size=file.tell(), headers=headers, expected_size=facts.size)
        _check(partial, name, sha256)
        os.replace(partial, blob)
    link = _home(repo) / "snapshots" / commit / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(os.path.relpath(blob, link.parent))
    except OSError:  # a file system without links
        os.replace(blob, link)


class _Watched:
    """A file that tells how much of it is there."""

    def __init__(self, file: IO[bytes], report: Callable[[int], None]) -> None:
        self._file = file
        self._report = report

    def write(self, data: bytes) -> int:
        count = self._file.write(data)
        self._report(self._file.tell())
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _check(path: Path, name: str, sha256: str | None) -> None:
    """Small files have no sha256 on the Hub; their size was checked."""
    if sha256 is None:
        return
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        path.unlink()
        raise CheckpointError(
            f"{name} arrived damaged: its sha256 is {found[:12]}.., the Hub announced {sha256[:12]}..; it was thrown "
            "away, fetch the model again."
        )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """huggingface_hub says nothing; what there is to say, the command line says."""
    utils: Any = importlib.import_module("huggingface_hub.utils")
    level = utils.logging.get_verbosity()
    shown = not utils.are_progress_bars_disabled()
    utils.logging.set_verbosity_error()
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.logging.set_verbosity(level)
        if shown:
            utils.enable_progress_bars()


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """The Hub's and the network's errors as one sentence each."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{name} is gated: accept its terms at {endpoint()}/{name.split('@')[0]} and set HF_TOKEN to your token."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(
            f"{name.split('@')[0]} has no revision '{name.partition('@')[2] or 'main'}'; name one of its "
            "branches, tags or commits."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"there is no folder {name}, and no repository of that name on {endpoint()} unless it is private; check "
            "the name, or set HF_TOKEN."
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        raise ModelError(f"{endpoint()} answered {status} for {name}; try again later.") from error
    except OSError as error:
        if error.filename or error.errno == 28:
            raise OutputError(
                f"cannot write to the cache {cache_folder()}: {error.strerror or error}; free some space, or set "
                "HF_HUB_CACHE to another folder."
            ) from error
        raise _cut(name) from error
    except (ConnectionError, errors.HFValidationError) as error:
        raise _cut(name) from error
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("httpx", "httpx2", "httpcore", "requests", "urllib3"):
            raise
        raise _cut(name) from error


def _cut(name: str) -> ModelError:
    return ModelError(
        f"cannot fetch {name} from {endpoint()}: the connection failed or was cut; check the network and run "
        f"`audiolm models pull {name}`, which goes on where it stopped."
    )
