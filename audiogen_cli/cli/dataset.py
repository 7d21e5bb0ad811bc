"""audiolm prepare: recordings and captions in, manifest and tokens out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiogen_cli.cli import console, options
from audiogen_cli.errors import InputError

if TYPE_CHECKING:
    from audiogen_cli.models.codec import Codec
    from audiogen_cli.pipelines.prepare import Summary

_SHOWN = 20


def prepare(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The recordings: WAV, FLAC, OGG, Opus, MP3, AIFF.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the prepared data go.")],
    captions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV or JSONL with a file and a caption on each line. (Default: captions.csv, metadata.csv or .jsonl "
            "in the folder, else a .txt or .json beside each recording, else the names.)",
        ),
    ] = None,
    with_tokens: Annotated[
        bool, typer.Option("--tokens/--no-tokens", help="Also encode everything with the model's codec.")
    ] = True,
    valid: Annotated[
        float, typer.Option(min=0.0, max=0.5, help="The share of the seconds set aside for validation, by source.")
    ] = 0.1,
    as_json: options.Json = False,
    force: Annotated[bool, typer.Option("--force", help="Start anew instead of going on.")] = False,
    model: options.ModelName = options.MODEL,
    device: options.DeviceName = "auto",
    encoder: Annotated[
        str | None, typer.Option(metavar="NAME", help="Also write semantic ids, of this speech model (see --kmeans).")
    ] = None,
    centroids: Annotated[
        Path | None, typer.Option("--kmeans", metavar="FILE", help="Its centroids; a vq-wav2vec needs none.")
    ] = None,
) -> None:
    """Turn a folder of recordings into training data.

    The manifest's path goes to stdout. Files that cannot be used are listed at the end. Run again, it goes on where it
    was stopped.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name the folder that holds the recordings.")
    if encoder is None and centroids is not None:
        raise InputError("centroids are those of a speech model; give --encoder as well, or neither.")
    listener = None if encoder is None else _listener(encoder, centroids)
    codec = _codec(model, device) if with_tokens else None
    summary = _run(folder, output, captions, codec, valid, force)
    if listener is not None:
        from audiogen_cli.data.tokens import SEMANTIC

        _run(folder, output / SEMANTIC, captions, listener, valid, force)
    _tell(summary, as_json)


def _listener(encoder: str, centroids: Path | None) -> Any:
    from audiogen_cli.hub.fairseq import tokenizer

    with console.waiting(f"loading {encoder}"):
        return tokenizer(encoder, centroids)


def _codec(model: str, device: options.Device) -> Codec:
    from audiogen_cli.hub import catalog, checkpoint

    with console.waiting("loading the codec"):
        codec: Codec = checkpoint.load(  # type: ignore[assignment]
            catalog.find(model).folder / "codec", catalog.resolve_device(device), expect=checkpoint.CODECS
        )
    return codec


def _run(folder: Path, output: Path, captions: Path | None, codec: Codec | None, valid: float, force: bool) -> Summary:
    from audiogen_cli.pipelines import prepare as pipeline

    steps = pipeline.prepare(folder, output, captions, codec, valid, force)
    step = next(steps)  # there is one: an empty folder is an error
    with console.progress(f"preparing {folder.name}", total=step.total, unit="files") as show:
        while True:
            show(step.done, step.path.name)
            try:
                step = next(steps)
            except StopIteration as end:
                summary: Summary = end.value
                return summary


def _tell(summary: Summary, as_json: bool) -> None:
    for problem in summary.problems[:_SHOWN]:
        console.say(f"left out {problem.path}: {problem.reason}")
    if len(summary.problems) > _SHOWN:
        console.say(f"... and {len(summary.problems) - _SHOWN} more files left out.")
    minutes, valid_minutes = summary.seconds / 60, summary.valid_seconds / 60
    console.say(
        f"{summary.clips} recordings, {minutes:.1f} minutes; for validation {summary.valid_clips} of them, "
        f"{valid_minutes:.1f} minutes."
    )
    if as_json:
        console.result_json(summary._asdict() | {"manifest": str(summary.manifest)})
    else:
        console.result(str(summary.manifest))
