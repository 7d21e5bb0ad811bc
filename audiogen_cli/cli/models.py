"""audiolm models list | info: which models are there, and what each is."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from audiogen_cli.cli import console, options
from audiogen_cli.config import to_dict
from audiogen_cli.hub import catalog

app = typer.Typer(help="See which models there are.", no_args_is_help=True)


@app.command("list")
def list_models(as_json: options.Json = False) -> None:
    """List the models that can be used by name."""
    entries = catalog.bundled()
    if as_json:
        for name, entry in entries.items():
            console.result_json({"name": name, "folder": str(entry.folder)} | to_dict(entry.card))
        return
    rows = [(name, entry.card.licence, entry.card.description) for name, entry in entries.items()]
    console.table(("name", "licence", "what it makes"), rows)


@app.command("info")
def show_model(
    name: Annotated[str, typer.Argument(help="A model's name, or a folder.")] = options.MODEL,
    as_json: options.Json = False,
) -> None:
    """Show one model: where it lies, its hash, its licence and its defaults."""
    entry = catalog.find(name)
    card = dataclasses.asdict(entry.card)
    facts = {"name": card.pop("name"), "folder": str(entry.folder), "hash": entry.hash} | card
    if as_json:
        console.result_json(facts)
        return
    facts |= facts.pop("sampling")
    width = max(map(len, facts))
    for key, value in facts.items():
        console.result(f"{key.replace('_', ' '):{width}}  {value}")
