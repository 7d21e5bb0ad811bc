"""audiolm evaluate speech: how much of it is understood, and whether a continued recording stays what it was."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiogen_cli.cli import console, options
from audiogen_cli.cli.evaluate_codec import group
from audiogen_cli.config import to_dict
from audiogen_cli.errors import InputError

if TYPE_CHECKING:
    from audiogen_cli.pipelines.intelligibility import Progress, Voice

__all__ = ["group"]

_RECORDINGS, _SPOKEN, _CONTINUED = "The recordings", "What is spoken", "What is continued"


@group.command("speech")
def speech(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Recordings with transcripts, or a prepared folder: its held-out ones."),
    ],
    captions: Annotated[
        Path | None,
        typer.Option(
            "--captions", metavar="FILE", help="Their transcripts, as for prepare.", rich_help_panel=_RECORDINGS
        ),
    ] = None,
    clips: Annotated[
        int, typer.Option("--clips", min=2, help="How many recordings, at most.", rich_help_panel=_RECORDINGS)
    ] = 50,
    shortest: Annotated[
        float, typer.Option("--shortest", min=0.1, help="Of so many seconds or more.", rich_help_panel=_RECORDINGS)
    ] = 1.0,
    longest: Annotated[
        float, typer.Option("--longest", min=0.1, help="Of so many seconds or less.", rich_help_panel=_RECORDINGS)
    ] = 10.0,
    source: Annotated[
        str,
        typer.Option(
            "--source", metavar="NAME", help="Those only whose source has this in it.", rich_help_panel=_RECORDINGS
        ),
    ] = "",
    codec: Annotated[
        str | None, typer.Option("--codec", metavar="NAME", help="Also the recordings after this codec.")
    ] = None,
    codebooks: Annotated[
        list[int] | None,
        typer.Option("--codebooks", min=1, help="So many of its codebooks; again for more. (Default: four numbers.)"),
    ] = None,
    speaker: Annotated[
        Path | None,
        typer.Option(
            "--speaker", metavar="FOLDER", help="Also the texts as this VALL-E says them.", rich_help_panel=_SPOKEN
        ),
    ] = None,
    voices: Annotated[
        bool,
        typer.Option(
            "--voices/--no-voices",
            help="In the voice of another of the recordings, or in any.",
            rich_help_panel=_SPOKEN,
        ),
    ] = False,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    tries: Annotated[int, typer.Option("--tries", min=1, help="As of audiolm speak.", rich_help_panel=_SPOKEN)] = 3,
    continuing: Annotated[
        str | None,
        typer.Option(
            "--continue",
            metavar="NAME",
            help="Also what this model, an AudioLM or another, makes of the recordings' beginnings.",
            rich_help_panel=_CONTINUED,
        ),
    ] = None,
    prompt_seconds: Annotated[
        float,
        typer.Option("--prompt-seconds", min=0.1, help="Length of the beginnings.", rich_help_panel=_CONTINUED),
    ] = 1.5,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, help="Length of the new sound.", rich_help_panel=_CONTINUED)
    ] = 2.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the first sound; the others count up.")] = 0,
    recogniser: Annotated[
        Path | None,
        typer.Option(
            "--recogniser", metavar="FOLDER", help="Moonshine's .ort files. (Default: moonshine-voice's, installed.)"
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Also write the report as JSON.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object, no table.")] = False,
    force: options.Force = False,
    device: options.DeviceName = "cpu",
) -> None:
    """Measure how much of speech an independent recogniser understands: recordings, a codec's, a VALL-E's.

    Markdown tables go to stdout. The recogniser comes with:  pip install onnxruntime && pip install --no-deps
    moonshine-voice==0.1.0
    """
    if codebooks and codec is None:
        raise InputError("--codebooks are those of a codec; give --codec as well, or neither.")
    from audiogen_cli.data import files
    from audiogen_cli.metrics.moonshine import Moonshine
    from audiogen_cli.pipelines import continuation, intelligibility, speech_report

    if output is not None:
        files.check_output(output, force)
    recordings = intelligibility.choose(folder, captions, clips, shortest, longest, source)
    with console.waiting("loading the recogniser"):
        listener = Moonshine(recogniser)
    named = None if codec is None else _codec(codec, device)
    counts = () if named is None else codebooks or intelligibility.counts_of(named)
    voice, chosen = None, (temperature, top_k, top_p)
    if speaker is not None:
        voice = _voice(speaker, chosen, seed, tries, voices)
    rows = _watched(intelligibility.evaluate(listener, recordings, named, counts, voice))
    going_on: Any = ()
    if continuing is not None:
        model, sampling = _model(continuing, device, chosen)
        how = continuation.How(prompt_seconds, seconds, seed, sampling)
        going_on = _watched(continuation.evaluate(model, listener, recordings, how))
    report = speech_report.Report(listener.hash, tuple(rows), tuple(going_on))
    if output is not None:
        with files.replacing(output, force) as file:
            file.write(json.dumps(to_dict(report), indent=1).encode() + b"\n")
    if as_json:
        console.result_json(to_dict(report))
    else:
        console.result(speech_report.markdown(report).rstrip("\n"))


def _codec(name: str, device: options.Device) -> Any:
    from audiogen_cli.hub import catalog, codecs

    with console.fetching() as listener, console.waiting("loading the codec"):
        return codecs.load(name, catalog.resolve_device(device), listener)


def _sampling(defaults: Any, chosen: tuple[float | None, int | None, float | None]) -> Any:
    """The model's own, but for the temperature, top_k and top_p that are given."""
    import dataclasses

    from audiogen_cli.models.decoding import Sampling

    temperature, top_k, top_p = chosen
    if top_k is not None and top_p is None:
        top_p = 0.0  # which would override it
    given = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    known = {name: value for name, value in given.items() if value is not None}
    return Sampling(**dataclasses.asdict(defaults) | known)


def _voice(
    folder: Path, chosen: tuple[float | None, int | None, float | None], seed: int, tries: int, own: bool
) -> Voice:
    """As `audiolm speak` would speak."""
    from audiogen_cli.hub import catalog
    from audiogen_cli.pipelines.intelligibility import Voice
    from audiogen_cli.pipelines.speak import Speaker

    entry = catalog.find(folder)
    if not entry.speaks:
        raise InputError(f"{folder} is no VALL-E; train one with `audiolm train valle` and name its model folder.")
    sampling = _sampling(entry.card.sampling, chosen)
    with console.waiting(f"loading {entry.card.name}"):
        return Voice(Speaker.load(entry.folder, lanes=entry.card.lanes), sampling, seed, tries, own)


def _model(name: str, device: options.Device, chosen: tuple[float | None, int | None, float | None]) -> Any:
    """An AudioLM, or a model that answers words; and how it samples."""
    from audiogen_cli.cli.models import find
    from audiogen_cli.hub import catalog
    from audiogen_cli.pipelines import audiolm

    entry = find(name)
    sampling = _sampling(entry.card.sampling, chosen)
    with console.waiting(f"loading {entry.card.name}"):
        if not entry.staged:
            return catalog.load(entry, device), sampling
        place = catalog.resolve_device(device)
        return audiolm.load(entry.folder, place, entry.card.domain, entry.card.lanes), sampling


def _watched(steps: Generator[Progress, None, Any]) -> Any:
    """Runs a measurement to its end, behind a bar."""
    try:
        step = next(steps)
        with console.progress("sounds", step.total, "sounds") as show:
            while True:
                show(step.done, step.name)
                step = next(steps)
    except StopIteration as stop:
        return stop.value
