"""audiolm models list | info | pull | convert | remove: which models are there, what each is, and getting them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from audiogen_cli.cli import console, options
from audiogen_cli.config import to_dict
from audiogen_cli.errors import InputError
from audiogen_cli.hub import catalog, download
from audiogen_cli.hub.catalog import Entry
from audiogen_cli.hub.known import KNOWN, Known

app = typer.Typer(help="See which models there are, and get them.", no_args_is_help=True)
_NAME = "A name (audiolm models list), owner/name[@revision] on the Hub, or a folder."


def find(name: str) -> Entry:
    """The model of that name; what has to be fetched for it is shown as it comes."""
    with console.fetching() as listener:
        return catalog.find(name, listener)


@app.command("list")
def list_models(as_json: options.Json = False) -> None:
    """List the models that come with the program, those in the Hub's cache, and those that have a short name."""
    rows = [*_bundled(), *_remote()]
    if as_json:
        for row in rows:
            console.result_json(row)
        return
    console.table(
        ("name", "where", "licence", "what it makes"),
        [(row["name"], row["where"], row["licence"], row["description"]) for row in rows],
    )


@app.command("info")
def show_model(name: Annotated[str, typer.Argument(help=_NAME)] = options.MODEL, as_json: options.Json = False) -> None:
    """Show one model: where it lies, its hash, its licence and its defaults. Nothing is fetched for this."""
    facts = _facts(name)
    if as_json:
        console.result_json(facts)
        return
    facts |= facts.pop("sampling", {})
    width = max(map(len, facts))
    for key, value in facts.items():
        console.result(f"{key.replace('_', ' '):{width}}  {value}")


@app.command("pull")
def pull(name: Annotated[str, typer.Argument(help=_NAME)]) -> None:
    """Fetch a model with all that it needs, or the newest of it, into the Hub's cache.

    A download that was cut goes on where it stopped. The folder goes to stdout.
    """
    with console.fetching() as listener:
        folder = catalog.pull(name, listener)
    console.result(str(folder))


@app.command("convert")
def convert(
    source: Annotated[str, typer.Argument(help=_NAME + " Or a .th file of EnCodec.")],
    folder: Annotated[Path, typer.Argument(help="The folder to write.")],
    dtype: options.StoredDtype = "auto",
    padding: options.TextPadding = "audiocraft",
    force: options.Force = False,
) -> None:
    """Write a model in this program's own layout: safetensors, no pickle, quicker to load.

    A codec or an entropy model alone becomes a checkpoint folder, as audiolm train writes them.
    """
    from audiogen_cli.hub.convert import convert as convert_model

    with console.fetching() as listener:
        convert_model(source, folder, dtype, padding, force, listener)
    console.result(str(folder))


@app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help="A name (audiolm models list), or owner/name on the Hub.")],
) -> None:
    """Take a model out of the Hub's cache. Its text encoder stays, for others use it too."""
    if name in catalog.bundled():
        raise InputError(
            f"{name} comes with the program and takes no room in the cache; name a model that was fetched."
        )
    repo, revision = catalog.repository(name)
    if revision is not None:
        raise InputError(f"a model is removed with all its revisions; say {repo}.")
    console.say(f"removed {repo}: {console.size_text(download.remove(repo))}")


def _bundled() -> list[dict[str, Any]]:
    return [
        {"where": "bundled", "folder": str(entry.folder)} | to_dict(entry.card) for entry in catalog.bundled().values()
    ]


def _remote() -> list[dict[str, Any]]:
    """The known ones, and what else lies in the cache and is a model."""
    there = {found.repo: found for found in download.everything() if download.cached(found.repo) is not None}
    rows = []
    for known in KNOWN.values():
        found = there.pop(known.repo, None)
        where = f"cached, {console.size_text(found.size)}" if found else f"{known.download_gb:g} GB to fetch"
        rows.append({"where": where, "folder": str(found.folder) if found else None} | _about(known))
    for found in there.values():
        where = f"cached, {console.size_text(found.size)}"
        licence = download.licence(download.there(found.repo)) or "unknown"
        about = {"name": found.repo, "licence": licence, "description": ""}
        rows.append({"where": where, "folder": str(found.folder)} | about)
    return rows


def _about(known: Known) -> dict[str, Any]:
    channels = "stereo" if known.channels == 2 else "mono"
    rate = f"{known.sample_rate // 1000} kHz {channels}"
    facts = dataclasses.asdict(known)
    makes = facts.pop("makes")
    return facts | {"description": f"{makes}, {rate}, {known.parameters} parameters"}


def _facts(name: str) -> dict[str, Any]:
    known = KNOWN.get(name) or next((known for known in KNOWN.values() if known.repo == name), None)
    if known is not None and download.cached(known.repo) is None:
        return _about(known) | {"where": f"not fetched yet; audiolm models pull {name}"}
    entry = catalog.find(name, fetch=False)
    card = dataclasses.asdict(entry.card)
    if not entry.flows:
        del card["sampling"]["steps"]
    facts = {"name": card.pop("name"), "folder": str(entry.folder), "hash": entry.hash} | card
    if known is not None:
        about = ("repo", "parameters", "sample_rate", "channels", "gated")
        facts |= {key: value for key, value in dataclasses.asdict(known).items() if key in about}
    return facts
