"""audiolm evaluate codec: rate and distortion of a codec, beside Opus and Lyra on the same recordings."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiogen_cli.cli import console, evaluate, options
from audiogen_cli.config import to_dict

if TYPE_CHECKING:
    from audiogen_cli.hub.codecs import NamedCodec
    from audiogen_cli.pipelines.rate_distortion import Coder, Progress, Report

_RECORDINGS, _PEERS = "The recordings", "The others"
OPUS_KBPS = [9.0, 12.0, 16.0]


def codec(
    folder: Annotated[
        Path, typer.Argument(metavar="REF_DIR", help="A folder of recordings, or a prepared one: its held-out ones.")
    ],
    kbps: Annotated[
        list[float] | None,
        typer.Option(
            "--kbps",
            min=0.001,
            max=10_000.0,
            help="A rate of the codec; give it again for more. (Default: four, up to its most.)",
        ),
    ] = None,
    clips: Annotated[
        int, typer.Option("--clips", min=1, help="How many recordings, at most.", rich_help_panel=_RECORDINGS)
    ] = 20,
    shortest: Annotated[
        float, typer.Option("--shortest", min=0.1, help="Of so many seconds or more.", rich_help_panel=_RECORDINGS)
    ] = 2.0,
    longest: Annotated[
        float, typer.Option("--longest", min=0.1, help="Of so many seconds or less.", rich_help_panel=_RECORDINGS)
    ] = 10.0,
    source: Annotated[
        str,
        typer.Option(
            "--source",
            metavar="NAME",
            help="Those only whose source (or path, in a plain folder) has this in it.",
            rich_help_panel=_RECORDINGS,
        ),
    ] = "",
    heard_at: Annotated[
        int | None,
        typer.Option(
            "--heard-at",
            metavar="HZ",
            min=1_000,
            max=192_000,
            help="Score at this rate, say that of the recordings. (Default: the codec's.)",
            rich_help_panel=_RECORDINGS,
        ),
    ] = None,
    opus: Annotated[
        list[float],
        typer.Option("--opus", metavar="KBPS", help="Opus at this rate; again for more.", rich_help_panel=_PEERS),
    ] = OPUS_KBPS,
    lyra: Annotated[
        Path | None,
        typer.Option(
            "--lyra",
            metavar="DIR",
            help="Also Lyra V2: the folder of its tflite files. Wants ai-edge-litert.",
            rich_help_panel=_PEERS,
        ),
    ] = None,
    peers: Annotated[
        bool, typer.Option("--peers/--no-peers", help="With or without other codecs.", rich_help_panel=_PEERS)
    ] = True,
    listen: Annotated[
        bool, typer.Option("--listen/--no-listen", help="STOI, PESQ and ViSQOL, where their packages are installed.")
    ] = True,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the scores over the rates, as PNG.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Also write the report as JSON.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object, no table.")] = False,
    force: options.Force = False,
    model: options.ModelName = options.CODEC,
    device: options.DeviceName = "cpu",
) -> None:
    """Measure how near a codec comes to recordings at several rates, beside Opus and Lyra.

    A Markdown table goes to stdout. Scores by models of hearing speech come with:  pip install pystoi
    and, without what would need a compiler:  pip install --no-deps visqol-python
    """
    from audiogen_cli.data import files
    from audiogen_cli.pipelines import rate_distortion, rate_report

    for path in (plot, output):
        if path is not None:
            files.check_output(path, force)
    if plot is not None:
        rate_report.check_drawing()
    recordings = rate_distortion.choose(folder, clips, shortest, longest, source)
    loaded = _loaded(model, device)
    coders = [*_ours(loaded, kbps), *(_others(loaded, opus, lyra, heard_at) if peers else [])]
    report = _watched(rate_distortion.evaluate(loaded, coders, recordings, listen, heard_at))
    if output is not None:
        with files.replacing(output, force) as file:
            file.write(json.dumps(to_dict(report), indent=1).encode() + b"\n")
    if plot is not None:
        with files.replacing(plot, force) as file:
            file.write(rate_report.plot(report))
    if as_json:
        console.result_json(to_dict(report))
    else:
        console.result(rate_report.markdown(report).rstrip("\n"))


def _loaded(model: str, device: options.Device) -> NamedCodec:
    from audiogen_cli.hub import catalog, codecs

    with console.fetching() as listener, console.waiting("loading the codec"):
        return codecs.load(model, catalog.resolve_device(device), listener)


def _ours(loaded: NamedCodec, kbps: Sequence[float] | None) -> list[Coder]:
    """The codec at each rate, with its entropy model where there is one beside it."""
    from audiogen_cli.hub import codecs
    from audiogen_cli.pipelines import entropy, rate_distortion

    model = None
    if codecs.has_entropy_lm(loaded):
        lm = codecs.load_entropy_lm(loaded)
        model = entropy.as_published(lm) if loaded.is_published else entropy.exact(lm)
    return [rate_distortion.Neural(loaded, rate, model) for rate in kbps or rate_distortion.default_kbps(loaded)]


def _others(loaded: NamedCodec, opus: Sequence[float], lyra: Path | None, heard_at: int | None) -> list[Coder]:
    from audiogen_cli.pipelines.peers import LYRA_KBPS, Lyra, Opus

    rate = heard_at or loaded.codec.sample_rate
    found: list[Coder] = [Opus(kbps, rate, loaded.codec.channels) for kbps in opus]
    return found + ([Lyra(lyra, kbps) for kbps in LYRA_KBPS] if lyra is not None else [])


def _watched(steps: Generator[Progress, None, Report]) -> Report:
    """Runs the evaluation to its end, behind a bar."""
    try:
        step = next(steps)
        with console.progress("clips", step.total, "clips") as show:
            while True:
                show(step.done, step.coder)
                step = next(steps)
    except StopIteration as stop:
        report: Report = stop.value
        return report


group = typer.Typer()
group.callback(invoke_without_command=True)(evaluate.evaluate)  # the text model, when no subcommand is named
group.command("codec")(codec)
