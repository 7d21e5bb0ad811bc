"""audiolm train codec | lm"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from audiogen_cli.cli import console, options
from audiogen_cli.errors import InputError

if TYPE_CHECKING:
    from audiogen_cli.data.manifest import Clip
    from audiogen_cli.models.codec import Codec
    from audiogen_cli.training.loop import LoopConfig, Report, Task

app = typer.Typer(no_args_is_help=True, help="Train a codec or a language model on a folder of recordings.")

Data = Annotated[
    Path,
    typer.Option("--data", metavar="FOLDER", help="Recordings with captions, prepared by `audiolm prepare` or not."),
]
Run = Annotated[
    Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where checkpoints, samples, log and model go.")
]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", metavar="FILE", help="A TOML file with every setting that is not a flag.")
]
Preset = Annotated[
    Literal["soundstream", "encodec", "audiogen"] | None,
    typer.Option(help="A published codec's recipe; it is sized for a GPU, so mind --steps and --batch-size."),
]
Steps = Annotated[int | None, typer.Option(min=1, help="Optimizer steps. (Default: the recipe's.)")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Examples a step. (Default: the recipe's.)")]
Rate = Annotated[float | None, typer.Option("--learning-rate", min=0.0, help="Peak. (Default: the recipe's.)")]
TrainSeed = Annotated[int | None, typer.Option("--seed", min=0, help="(Default: the recipe's.)")]
Tiers = Annotated[
    list[str] | None, typer.Option("--tier", help="Use only clips of this tier of the manifest; may be repeated.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the output folder.")]
Start = Annotated[
    Path | None, typer.Option("--start", metavar="FOLDER", help="Begin with the weights of this checkpoint folder.")
]
Licence = Annotated[str, typer.Option(help="Of the data, kept in the checkpoint.")]


@app.command()
def codec(
    data: Data,
    output: Run,
    recipe: RecipeFile = None,
    preset: Preset = None,
    steps: Steps = None,
    batch_size: BatchSize = None,
    learning_rate: Rate = None,
    seed: TrainSeed = None,
    tier: Tiers = None,
    start: Start = None,
    resume: Resume = False,
    licence: Licence = "",
) -> None:
    """Train a codec (the spectral one; EnCodec or SoundStream by preset or recipe) on recordings, without captions.

    Written as it goes: log.jsonl, samples with spectrograms at each evaluation, checkpoints, and model/, a folder that
    other commands take. Stopped, it goes on with --resume.
    """
    if recipe and preset:
        raise InputError("a preset is a whole recipe; give either --preset or --recipe.")
    clips = _clips(data, tier, uncaptioned=True)
    from audiogen_cli.config import from_dict, load_toml, to_dict
    from audiogen_cli.hub import checkpoint
    from audiogen_cli.training import data as training_data
    from audiogen_cli.training.codec import CodecRecipe, CodecTask, validation_pieces
    from audiogen_cli.training.presets import PRESETS

    plan = load_toml(CodecRecipe, recipe) if recipe else from_dict(CodecRecipe, {})
    plan = PRESETS[preset] if preset else plan
    plan = dataclasses.replace(plan, loop=_loop(plan.loop, steps, batch_size, learning_rate, seed))
    begun: Codec | None = checkpoint.load(start) if start else None  # type: ignore[assignment]
    model = begun or plan.build()
    with console.waiting("reading the recordings"):
        sets = training_data.load(clips, model.sample_rate, model.channels)
    pieces = validation_pieces(sets.valid.recordings, model.sample_rate)
    task = CodecTask(plan, sets.train.recordings, pieces, _source(data, sets.train.clips, licence), model)
    _train(task, plan.loop, output, to_dict(plan), resume)


@app.command()
def lm(
    data: Data,
    output: Run,
    recipe: RecipeFile = None,
    steps: Steps = None,
    batch_size: BatchSize = None,
    learning_rate: Rate = None,
    seed: TrainSeed = None,
    tier: Tiers = None,
    start: Start = None,
    resume: Resume = False,
    licence: Licence = "",
    model: options.ModelName = options.MODEL,
    codec_folder: Annotated[
        Path | None, typer.Option("--codec", metavar="FOLDER", help="A codec trained here. (Default: the model's.)")
    ] = None,
    from_tokens: Annotated[
        bool, typer.Option("--tokens", help="Learn from the codes that `audiolm prepare` wrote, not from the sound.")
    ] = False,
    text_folder: Annotated[
        Path | None, typer.Option("--text", metavar="FOLDER", help="A T5 encoder. (Default: the model's.)")
    ] = None,
) -> None:
    """Train a language model on captioned recordings, on the codes of a codec and the text encoder of a model.

    Examples are made on the fly: sounds repeated, varied, mixed, and their captions reworded. Written as it goes:
    log.jsonl, sounds for a few prompts with spectrograms, checkpoints, and model/. Stopped, it goes on with --resume.
    """
    clips = _clips(data, tier)
    from audiogen_cli.conditioners.text import T5Conditioner
    from audiogen_cli.config import load_toml, to_dict
    from audiogen_cli.data.tokens import Tokens
    from audiogen_cli.hub import catalog, checkpoint
    from audiogen_cli.training import data as training_data
    from audiogen_cli.training import lm as training

    folders = {
        "codec": codec_folder or catalog.find(model).folder / "codec",
        "text": text_folder or catalog.find(model).folder / "text",
    }
    with console.waiting("loading the codec and the text encoder"):
        base: Any = checkpoint.load(folders["codec"])
        text = T5Conditioner.load(folders["text"], "cpu")
    plan = load_toml(training.LMRecipe, recipe) if recipe else training.LMRecipe()
    plan = dataclasses.replace(plan, loop=_loop(plan.loop, steps, batch_size, learning_rate, seed))
    plan = training.fitted(plan, base, text)
    begun: Any = checkpoint.load(start, expect=("lm",)) if start else None
    if from_tokens:
        examples, validation = training.token_sources(plan, Tokens(data))
    else:
        with console.waiting("reading the recordings"):
            sets = training_data.load(clips, base.sample_rate, base.channels)
        clips = sets.train.clips
        examples, validation = training.example_sources(plan, base, sets)
    task = training.LMTask(plan, base, text, examples, validation, _source(data, clips, licence), begun, folders)
    _train(task, plan.loop, output, to_dict(plan), resume)


def _clips(data: Path, tiers: list[str] | None, uncaptioned: bool = False) -> list[Any]:
    """The clips, found before anything heavy is imported."""
    if not data.is_dir():
        raise InputError(f"{data} is not a folder; name the folder that holds the recordings.")
    from audiogen_cli.training import data as training_data

    return training_data.find_clips(data, tiers or (), uncaptioned=uncaptioned)


def _loop(
    loop: LoopConfig, steps: int | None, batch_size: int | None, learning_rate: float | None, seed: int | None
) -> LoopConfig:
    """The recipe's loop with what the flags say instead."""
    flags: dict[str, Any] = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    return dataclasses.replace(loop, **{name: value for name, value in flags.items() if value is not None})


def _source(data: Path, clips: Sequence[Clip], licence: str) -> dict[str, Any]:
    hours = sum(clip.seconds for clip in clips) / 3600
    return {"data": data.name, "clips": len(clips), "hours": round(hours, 2), "licence": licence}


def _train(task: Task, loop: LoopConfig, output: Path, recipe: dict[str, Any], resume: bool) -> None:
    from audiogen_cli.training.loop import train

    reports = train(task, loop, output, recipe, resume)
    with console.progress(f"training in {output.name}", total=float(loop.steps), unit="steps") as show:
        for report in _smoothed(reports):
            if report.kind == "step":
                show(report.step, _words(report.metrics, 3))
            elif report.kind == "evaluate":
                console.say(f"step {report.step}: {_words(report.metrics, 12)}")
    console.result(str(output / "model"))


def _smoothed(reports: Iterator[Report], keep: float = 0.95) -> Iterator[Report]:
    """Steps with metrics averaged over the last ones, which a person can read."""
    average: dict[str, float] = {}
    for report in reports:
        if report.kind == "step":
            for name, value in report.metrics.items():
                average[name] = keep * average.get(name, value) + (1 - keep) * value
            report = dataclasses.replace(report, metrics=dict(average))
        yield report


def _words(metrics: Any, count: int) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in list(metrics.items())[:count])
