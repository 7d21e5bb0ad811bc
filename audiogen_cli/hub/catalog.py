"""From a name or a folder to a model that is ready to make sound.

    folder/model.json                  what a person needs to know, and the sampling it sounds best with (ModelCard)
    folder/codec, folder/lm            checkpoints (hub/checkpoint.py)
    folder/flow                        in place of lm, or beside it to paint over what it draws: a flow of the codec's
                                       latents (models/flow.py)
    folder/text                        the text encoder (conditioners/text.py)
    folder/words.txt                   if it is there: words that no caption had, and what they are read as
    folder/clap                        if it is there: the scorer that chooses among candidates, a checkpoint
    folder/judge                       if it is there: what chooses among a flow's candidates in its place, a checkpoint

A codec may stand alone beside its card. An AudioLM has other parts (hub/stages.py): codec, encoder, semantic, coarse,
and where they are needed fine and text. A VALL-E (models/valle.py) has two: codec and valle.

Bundled models lie in `weights/`: inside the installed package, or at the root of a clone. Finding and hashing one of
them imports no torch; only `load` does. Any other name is a short name of hub/known.py or `owner/name[@revision]` on
the Hub, and its folder, as one on the disk, may be of a foreign layout (hub/foreign.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from audiogen_cli.conditioners import lexicon
from audiogen_cli.config import from_dict, nearest
from audiogen_cli.errors import ConfigError, InputError, ModelError
from audiogen_cli.hub import download
from audiogen_cli.hub.card import ModelCard, SamplingDefaults
from audiogen_cli.hub.known import KNOWN, Facts, of_repo
from audiogen_cli.hub.model import JUDGE, check_fit
from audiogen_cli.hub.model import SCORER as SCORER
from audiogen_cli.hub.model import Model as Model
from audiogen_cli.hub.shelf import SHELVES as SHELVES
from audiogen_cli.hub.shelf import borrowed

if TYPE_CHECKING:
    import torch

    from audiogen_cli.hub.foreign import Layout, Parts

Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Padding = Literal["audiocraft", "masked"]

Getter = Callable[[str, str | None], Path]  # a repository and a revision -> its folder

DEFAULT_MODEL = "sounds-small"
DEFAULT_CODEC = "codec-small"
PARTS = ("codec", "lm", "text")
FLOW_PARTS = ("codec", "flow", "text")
STAGED_PARTS = ("codec", "encoder", "semantic", "coarse")
SPEAKING_PARTS = ("codec", "valle")


@dataclass(frozen=True)
class Entry:
    """A model that is there, not loaded yet.

    layout: None is ours. text, codec: the folders of those parts of a foreign model.
    """

    folder: Path
    card: ModelCard
    layout: Layout | None = None
    text: Path | None = None
    codec: Path | None = None

    @property
    def is_codec(self) -> bool:
        """Whether this is a codec alone."""
        return self.layout is None and _parts_of(self.folder) == PARTS[:1]

    @property
    def staged(self) -> bool:
        """Whether this is an AudioLM."""
        return self.layout is None and _is_staged(self.folder)

    @property
    def speaks(self) -> bool:
        """Whether this is a VALL-E."""
        return self.layout is None and _parts_of(self.folder) == SPEAKING_PARTS

    @property
    def draws(self) -> bool:
        """Whether it draws codes with a language model."""
        return self.layout is not None or _parts_of(self.folder) != FLOW_PARTS

    @property
    def flows(self) -> bool:
        """Whether it has a flow, alone or beside a language model."""
        return self.layout is None and (self.folder / "flow").is_dir()

    @property
    def scored(self) -> bool:
        """Whether there is a scorer that can choose among candidates."""
        return self.layout is None and not self.staged and not self.speaks and (self.folder / SCORER).is_dir()

    @property
    def chooses(self) -> bool:
        """Whether it can choose among candidates: by its scorer, or by its flow."""
        return self.scored or self.flows

    @cached_property
    def hash(self) -> str:
        """Twelve hex digits over everything that decides how the model sounds: the parts' files, a vocoder's that the
        codec borrows, lanes and window."""
        decisive: list[Any] = [self.card.lanes, self.card.window_seconds]
        if self.staged:
            decisive.append(self.card.domain)
        if self.layout is not None:
            return self._foreign_hash(decisive)
        digest = hashlib.sha256(json.dumps(decisive).encode())
        parts = {*_parts_of(self.folder), "text"} | ({"drafts", "fine"} if self.staged else {SCORER, JUDGE, "flow"})
        files = [(path, self.folder) for part in parts for path in (self.folder / part).rglob("*") if path.is_file()]
        lent = [(path, folder) for folder in borrowed(self.folder / "codec") for path in folder.iterdir()]
        for path, root in sorted(files) + sorted(lent):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0")
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        if (words := self.folder / lexicon.NAME).is_file():
            digest.update(words.read_bytes())
        return digest.hexdigest()[:12]

    def _foreign_hash(self, decisive: list[Any]) -> str:
        """The Hub's cache names large files by their sha256, so that they need not be read for this."""
        for folder in (self.folder, self.text or self.folder, self.codec or self.folder):
            names = download.needed({path.name for path in folder.iterdir()}) or []
            decisive += [(name, download.content_key(folder / name)) for name in names if name != "README.md"]
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:12]


def bundled() -> dict[str, Entry]:
    """The models that came with the program, by name; one that lacks a part is left out."""
    entries = {}
    for name, folder in _shelved().items():
        with contextlib.suppress(ModelError):
            entries[name] = _entry(folder)
    return entries


def find(name: str | os.PathLike[str], listener: download.Listener | None = None, fetch: bool = True) -> Entry:
    """A bundled model or one of the Hub by its name, or a folder by its path.

    What is not in the cache is downloaded, unless `fetch` is False; `listener` hears how far that is. Raises ModelError
    when there is none of that name, or it cannot be fetched.
    """
    get = partial(download.fetch, listener=listener) if fetch else download.there
    known = _shelved()
    if str(name) in known:
        return _entry(known[str(name)])
    folder = Path(name)
    if folder.is_dir():
        return _any_entry(folder, folder.resolve().name, get)
    if folder.exists():
        raise ModelError(f"{name} is a file, and a model is a folder; name the folder that holds {', '.join(PARTS)}.")
    repo, revision = repository(str(name))
    about = of_repo(repo)
    return _any_entry(get(repo, revision), about.name if about else repo, get, repo)


def is_here(name: str) -> bool:
    """Whether a name is that of a bundled model, or of a file or folder on the disk."""
    return name in _shelved() or Path(name).exists()


def repository(name: str) -> tuple[str, str | None]:
    """What a name means on the Hub: `owner/name` and the revision. Raises ModelError when it can mean nothing there."""
    short, _, revision = name.partition("@")
    if short in KNOWN:
        return KNOWN[short].repo, revision or None
    remote = download.NAME.fullmatch(name)
    if remote is None:
        hint = nearest(name, [*_shelved(), *KNOWN])
        raise ModelError(f"there is no model '{name}'{hint}; name one that `audiolm models list` shows, or a folder.")
    return remote["repo"], remote["revision"]


def pull(name: str, listener: download.Listener | None = None) -> Path:
    """Fetches the newest of a repository and what it needs besides; returns its folder. A codec alone may be pulled."""
    if is_here(name):
        return find(name).folder
    repo, revision = repository(name)
    folder = download.fetch(repo, revision, listener, refresh=True)
    if not is_codec(folder):
        find(name, listener)
    return folder


def load(
    name: str | os.PathLike[str] | Entry = DEFAULT_MODEL,
    device: Device = "cpu",
    dtype: Dtype = "auto",
    padding: Padding = "audiocraft",
) -> Model:
    """Loads all parts and checks that they fit.

    padding: of a foreign model, what its language model does with the padding of a text; see models/lm.py.
    Raises ModelError when they do not fit, CheckpointError when a part is damaged, InputError when there is no such
    device.
    """
    entry = name if isinstance(name, Entry) else find(name)
    if entry.is_codec:
        raise ModelError(f"{entry.card.name} is a codec and speaks no language; name another model.")
    if entry.staged:
        raise ModelError(f"{entry.folder} is an AudioLM; load it with pipelines.audiolm.load, or use the command line.")
    if entry.speaks:
        raise ModelError(f"{entry.folder} is a VALL-E; load it with Speaker.load, or use `audiolm speak`.")
    place = resolve_device(device)
    return load_as(entry, place, torch_dtype(dtype, place), padding)


def load_as(entry: Entry, place: str, dtype: torch.dtype | None, padding: Padding = "audiocraft") -> Model:
    """`load` with everything resolved; a dtype of None keeps the language model's own."""
    from audiogen_cli.hub import checkpoint

    codec, maker, text = _parts(entry, place, dtype, padding)
    parts = (codec.to(place), maker.to(place), text)
    painter: Any = None
    if entry.flows and entry.draws:
        painter = checkpoint.load(entry.folder / "flow", place, expect=("flow",))
    words = entry.folder / lexicon.NAME
    heard = lexicon.Lexicon.read(words) if entry.layout is None and words.is_file() else None
    model = Model(entry.card.name, entry.folder, entry.hash, entry.card, *parts, entry.scored, painter, heard)
    for part in (maker, painter):
        check_fit(model, part)
    return model


def resolve_device(device: Device) -> str:
    """ "cpu", "cuda" or "mps"; "auto" is the fastest there is. Raises InputError when it is not there."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, available in there.items() if available)
    if not there[device]:
        raise InputError(f"torch finds no {device} device on this machine; use --device cpu, or auto.")
    return device


def resolve_dtype(dtype: Dtype, device: str) -> str:
    """ "auto" is bfloat16 on CUDA and float32 elsewhere."""
    if dtype == "auto":
        return "bfloat16" if device == "cuda" else "float32"
    return dtype


def torch_dtype(dtype: Dtype, device: str) -> torch.dtype:
    import torch

    resolved: torch.dtype = getattr(torch, resolve_dtype(dtype, device))
    return resolved


def _shelved() -> dict[str, Path]:
    """Folders with a model card on the shelves; what an earlier shelf has hides a later one's."""
    folders = [folder for shelf in reversed(SHELVES) if shelf.is_dir() for folder in sorted(shelf.iterdir())]
    return {folder.name: folder for folder in folders if (folder / "model.json").is_file()}


def _any_entry(folder: Path, name: str, get: Getter, repo: str | None = None) -> Entry:
    """A folder of any layout; `get` finds what a foreign one only names."""
    if (folder / "model.json").is_file() or any(
        (folder / part).is_dir() for part in PARTS + FLOW_PARTS + STAGED_PARTS + SPEAKING_PARTS
    ):
        return _entry(folder)
    from audiogen_cli.hub import foreign

    layout = foreign.recognise(folder)
    if layout is None and foreign.has_codec(folder):
        raise ModelError(
            f"{name} is a codec without a language model; `audiolm models convert` makes a checkpoint of it."
        )
    if layout is None:
        return _entry(folder)  # which says what a model is
    facts = foreign.facts(folder, layout)
    text = folder if facts.text is None else _text_folder(facts.text, get)
    codec = folder if facts.codec is None else get(facts.codec, None)
    return Entry(folder, _card(name, facts, folder, repo), layout, text, codec)


def _card(name: str, facts: Facts, folder: Path, repo: str | None) -> ModelCard:
    """AudioCraft's defaults. Its two families are told apart by their rate: AudioGen's is 16 kHz."""
    about = of_repo(repo) if repo else None
    seconds, stride = (5.0, 2.0) if facts.sample_rate == 16_000 else (15.0, 18.0)
    rate = f"{facts.sample_rate / 1000:g} kHz {'stereo' if facts.stereo else 'mono'}"
    return ModelCard(
        name=name,
        description=f"{about.makes if about else 'sound from text'}, {rate}",
        licence=download.licence(folder) or (about.licence if about else "unknown"),
        sampling=SamplingDefaults(guidance=facts.guidance),
        seconds=seconds,
        extend_stride=stride if stride < facts.window_seconds else None,
    )


def _text_folder(name: str, get: Getter) -> Path:
    """T5's repositories moved under their owner's name; caches of before have them without."""
    if "/" in name:
        return get(name, None)
    return download.cached(name) or get(f"google-t5/{name}", None)


def is_codec(folder: Path) -> bool:
    """Whether a folder of another program holds a codec and nothing that speaks its codes."""
    from audiogen_cli.hub import foreign

    return foreign.recognise(folder) is None and foreign.has_codec(folder)


def _parts(entry: Entry, place: str, dtype: torch.dtype | None, padding: Padding) -> Parts:
    from audiogen_cli.conditioners.text import T5Conditioner
    from audiogen_cli.hub import checkpoint, foreign

    if entry.layout is not None:
        folder = entry.folder
        return foreign.load(folder, entry.layout, entry.text or folder, entry.codec or folder, dtype, padding)
    codec: Any = checkpoint.load(entry.folder / "codec", place, expect=checkpoint.CODECS)
    maker: Any
    if entry.draws:
        maker = checkpoint.load(entry.folder / "lm", place, expect=("lm",), dtype=dtype)
    else:
        maker = checkpoint.load(entry.folder / "flow", place, expect=("flow",))
    return foreign.Parts(codec, maker, T5Conditioner.load(entry.folder / "text", "cpu"))


def _is_staged(folder: Path) -> bool:
    return not (folder / "lm").is_dir() and any((folder / part).is_dir() for part in STAGED_PARTS[1:])


def _parts_of(folder: Path) -> tuple[str, ...]:
    """The parts that a folder of ours has, or should have."""
    if (folder / "valle").is_dir():
        return SPEAKING_PARTS
    if (folder / "flow").is_dir() and not (folder / "lm").is_dir():
        return FLOW_PARTS
    if _is_staged(folder):
        return STAGED_PARTS
    alone = (folder / "model.json").is_file() and not any((folder / part).is_dir() for part in PARTS[1:])
    return PARTS[:1] if alone and (folder / PARTS[0]).is_dir() else PARTS


def _entry(folder: Path) -> Entry:
    parts = _parts_of(folder)
    missing = [part for part in parts if not (folder / part).is_dir()]
    if missing:
        raise ModelError(f"{folder} is not a model: it has no folder {' and no '.join(missing)}; add it.")
    path = folder / "model.json"
    if not path.exists():
        return Entry(folder, ModelCard(folder.resolve().name))
    try:
        card = from_dict(ModelCard, json.loads(path.read_text(encoding="utf-8")), where=str(path))
    except (OSError, ValueError, ConfigError) as error:
        raise ModelError(f"cannot use {path}: {error}") from error
    entry = Entry(folder, card)
    if card.candidates > 1 and not entry.chooses:
        raise ModelError(
            f"{path} asks for candidates, but there is no scorer and no flow; add the folder {SCORER}, or ask for 1."
        )
    return entry
