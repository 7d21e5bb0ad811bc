"""audiolm info: what a sound file is, and how it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audiogen_cli.cli import console, options
from audiogen_cli.config import to_dict
from audiogen_cli.pipelines.recipe import from_comment


def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A sound file.")], as_json: options.Json = False
) -> None:
    """Show what a sound file is, and the prompt, seed and parameters that it was made with."""
    from audiogen_cli.data import audio

    found = audio.info(file)
    recipe = from_comment(found.comment)
    made = {} if recipe is None else {key: value for key, value in to_dict(recipe).items() if value is not None}
    header = found._asdict()
    comment = header.pop("comment")
    if as_json:
        console.result_json({"path": str(file)} | header | {"comment": comment, "made": made or None})
        return
    lines = (
        {"file": file}
        | header
        | (made or ({"comment": comment} if comment else {}))
        | {"seconds": f"{found.seconds:g}"}
    )
    width = max(map(len, lines))
    for key, value in lines.items():
        console.result(f"{key.replace('_', ' '):{width}}  {value}")
