"""A model of any layout -> a folder in our own: safetensors and no pickle, quicker to load."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from audiogen_cli.conditioners import lexicon
from audiogen_cli.errors import OutputError
from audiogen_cli.hub import catalog, checkpoint, download, foreign
from audiogen_cli.hub.catalog import Dtype, Padding
from audiogen_cli.hub.download import Listener
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.entropy import EntropyLM


def convert(
    name: str,
    folder: Path,
    dtype: Dtype = "auto",
    padding: Padding = "audiocraft",
    force: bool = False,
    listener: Listener | None = None,
) -> None:
    """Writes a model in our own layout, safetensors and no pickle; of a codec or an entropy model alone, a checkpoint.

    dtype: of the language model; "auto" keeps its own. padding: see hub/catalog.load. The folder appears when all of it
    is written. Raises OutputError when it is there already, or the disk refuses.
    """
    _check_place(folder, force)
    alone = _part_alone(name, listener)
    if alone is not None:
        with _new(folder) as beside:
            checkpoint.save(beside, alone, {"model": name})
        return
    entry = catalog.find(name, listener)
    model = catalog.load_as(entry, "cpu", None if dtype == "auto" else getattr(torch, dtype), padding)
    source = {"model": model.name, "hash": model.hash, "licence": model.licence}
    with _new(folder) as beside:
        checkpoint.save(beside / "codec", model.codec, source)
        for part in (model.maker, model.painter):
            if part is not None:
                checkpoint.save(beside / checkpoint.kind_of(part), part, source)
        model.text.save(beside / "text")
        if model.lexicon is not None:
            shutil.copy2(entry.folder / lexicon.NAME, beside / lexicon.NAME)
        card = json.dumps(dataclasses.asdict(model.card), indent=2)
        (beside / "model.json").write_text(card + "\n", encoding="utf-8")


def _part_alone(name: str, listener: Listener | None) -> Codec | EntropyLM | None:
    """The codec when `name` is a file or folder of one, or a repository of one; or the entropy model in a file."""
    place = Path(name)
    if place.is_file() and foreign.has_codec(place):
        return foreign.load_alone(place)
    if not catalog.is_here(name):
        place = download.fetch(*catalog.repository(name), listener)
    return foreign.load_codec(place) if catalog.is_codec(place) else None


def _check_place(folder: Path, force: bool) -> None:
    """Before anything is fetched."""
    if folder.exists() and not force:
        raise OutputError(f"{folder} is there already; overwrite it with --force, or name another folder.")
    if folder.exists() and not (folder / "model.json").is_file() and not (folder / "config.json").is_file():
        raise OutputError(f"{folder} holds something that is no model, which is not overwritten; name another folder.")


@contextlib.contextmanager
def _new(folder: Path) -> Iterator[Path]:
    """An empty folder beside the one that is to be, which takes its place at the end."""
    beside = folder.with_name(folder.name + ".beside")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"cannot write {beside}: {error.strerror or error}; choose another folder.") from error
    try:
        yield beside
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
