"""audiolm train codec | lm | flow | entropy | clap"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

import typer

from audiogen_cli.cli import console, options
from audiogen_cli.errors import ConfigError, InputError

if TYPE_CHECKING:
    from audiogen_cli.conditioners.text import T5Conditioner
    from audiogen_cli.data.manifest import Clip
    from audiogen_cli.models.codec import Codec
    from audiogen_cli.training.data import TrainingData
    from audiogen_cli.training.loop import Report, Task

app = typer.Typer(no_args_is_help=True, help="Train a model on a folder of recordings.")
R = TypeVar("R")

Data = Annotated[
    Path,
    typer.Option("--data", metavar="FOLDER", help="Recordings with captions, prepared by `audiolm prepare` or not."),
]
OutputFolder = Annotated[
    Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where checkpoints, samples, log and model go.")
]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", metavar="FILE", help="A TOML file with every setting that is not a flag.")
]
Preset = Annotated[
    Literal["soundstream", "encodec", "audiogen", "mel"] | None,
    typer.Option(
        help="A whole recipe: a published codec's, sized for a GPU, so mind --steps and --batch-size; or mel, the kind "
        "that is bundled, for two processor cores."
    ),
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
CodecFolder = Annotated[
    Path | None, typer.Option("--codec", metavar="FOLDER", help="A codec trained here. (Default: the model's.)")
]
TextFolder = Annotated[
    Path | None, typer.Option("--text", metavar="FOLDER", help="A T5 encoder. (Default: the model's.)")
]


@dataclasses.dataclass(frozen=True)
class Run:
    """The options that every kind of training has."""

    data: Data
    output: OutputFolder
    recipe: RecipeFile = None
    steps: Steps = None
    batch_size: BatchSize = None
    learning_rate: Rate = None
    seed: TrainSeed = None
    tier: Tiers = None
    start: Start = None
    resume: Resume = False
    licence: Licence = ""

    def clips(self, uncaptioned: bool = False) -> list[Clip]:
        """Found before anything heavy is imported. uncaptioned: those without a caption too."""
        if not self.data.is_dir():
            raise InputError(f"{self.data} is not a folder; name the folder that holds the recordings.")
        from audiogen_cli.training import data as training_data

        return training_data.find_clips(self.data, self.tier or (), uncaptioned=uncaptioned)

    def plan(self, kind: type[R], preset: R | None = None) -> R:
        """The recipe or the preset, with what the flags say instead. Raises ConfigError."""
        from audiogen_cli.config import from_dict, load_toml

        plan: Any = load_toml(kind, self.recipe) if self.recipe else preset or from_dict(kind, {})
        flags = {name: getattr(self, name) for name in ("steps", "batch_size", "learning_rate", "seed")}
        said = {name: value for name, value in flags.items() if value is not None}
        try:
            found: R = dataclasses.replace(plan, loop=dataclasses.replace(plan.loop, **said))
        except ValueError as error:
            raise ConfigError(f"the flags do not go with the recipe: {error}") from error
        return found

    def read(self, clips: Sequence[Clip], sample_rate: int, channels: int) -> TrainingData:
        """The recordings, as the model wants them."""
        from audiogen_cli.training import data as training_data

        with console.waiting("reading the recordings"):
            return training_data.load(clips, sample_rate, channels)

    def source(self, clips: Sequence[Clip]) -> dict[str, Any]:
        """What a checkpoint says of its data."""
        hours = sum(clip.seconds for clip in clips) / 3600
        return {"data": self.data.name, "clips": len(clips), "hours": round(hours, 2), "licence": self.licence}

    def train(self, task: Task, plan: Any) -> None:
        """To the end, with progress; the model's folder goes to stdout."""
        from audiogen_cli.config import to_dict
        from audiogen_cli.training.loop import train

        reports = train(task, plan.loop, self.output, to_dict(plan), self.resume)
        with console.progress(f"training in {self.output.name}", float(plan.loop.steps), unit="steps") as show:
            for report in _smoothed(reports):
                if report.kind == "step":
                    show(report.step, _words(report.metrics, 3))
                elif report.kind == "evaluate":
                    console.say(f"step {report.step}: {_words(report.metrics, 12)}")
        console.result(str(self.output / "model"))


def with_run(command: Callable[..., None]) -> Callable[..., None]:
    """`command(run, ...)` as Typer wants it: the options of `Run` and its own, each by name."""

    def named(**values: Any) -> None:
        shared = {field.name: values.pop(field.name) for field in dataclasses.fields(Run)}
        command(Run(**shared), **values)

    kinds = get_type_hints(Run, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter(
            field.name,
            keyword,
            annotation=kinds[field.name],
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
        )
        for field in dataclasses.fields(Run)
    ]
    own = [own.replace(kind=keyword) for own in list(inspect.signature(command, eval_str=True).parameters.values())[1:]]
    named.__signature__ = inspect.Signature([*shared, *own])  # type: ignore[attr-defined]
    named.__annotations__ = {}
    named.__name__, named.__doc__ = command.__name__, command.__doc__
    return named


@app.command()
@with_run
def codec(run: Run, preset: Preset = None) -> None:
    """Train a codec (the spectral one; others by preset or recipe) on recordings, without captions.

    Written as it goes: log.jsonl, samples with spectrograms at each evaluation, checkpoints, and model/, a folder that
    other commands take. Stopped, it goes on with --resume.
    """
    if run.recipe and preset:
        raise InputError("a preset is a whole recipe; give either --preset or --recipe.")
    clips = run.clips(uncaptioned=True)
    from audiogen_cli.hub import checkpoint
    from audiogen_cli.training.codec import CodecRecipe, CodecTask, validation_pieces
    from audiogen_cli.training.presets import PRESETS

    plan = run.plan(CodecRecipe, PRESETS[preset] if preset else None)
    begun: Codec | None = checkpoint.load(run.start) if run.start else None  # type: ignore[assignment]
    model = begun or plan.build()
    sets = run.read(clips, model.sample_rate, model.channels)
    pieces = validation_pieces(sets.valid.recordings, model.sample_rate)
    run.train(CodecTask(plan, sets.train.recordings, pieces, run.source(sets.train.clips), model), plan)


@app.command()
@with_run
def lm(
    run: Run,
    model: options.ModelName = options.MODEL,
    codec_folder: CodecFolder = None,
    from_tokens: Annotated[
        bool, typer.Option("--tokens", help="Learn from the codes that `audiolm prepare` wrote, not from the sound.")
    ] = False,
    text_folder: TextFolder = None,
) -> None:
    """Train a language model on captioned recordings, on the codes of a codec and the text encoder of a model.

    Examples are made on the fly: sounds repeated, varied, mixed, and their captions reworded. Written as it goes:
    log.jsonl, sounds for a few prompts with spectrograms, checkpoints, and model/. Stopped, it goes on with --resume.
    """
    clips = run.clips()
    from audiogen_cli.data.tokens import Tokens
    from audiogen_cli.hub import checkpoint
    from audiogen_cli.training import lm as training

    base, text, folders = _hearing(model, codec_folder, text_folder)
    plan = training.fitted(run.plan(training.LMRecipe), base, text)
    begun: Any = checkpoint.load(run.start, expect=("lm",)) if run.start else None
    if from_tokens:
        examples, validation = training.token_sources(plan, Tokens(run.data))
    else:
        sets = run.read(clips, base.sample_rate, base.channels)
        clips = sets.train.clips
        examples, validation = training.example_sources(plan, base, sets)
    run.train(training.LMTask(plan, base, text, examples, validation, run.source(clips), begun, folders), plan)


@app.command()
@with_run
def flow(
    run: Run,
    model: options.ModelName = options.MODEL,
    codec_folder: CodecFolder = None,
    text_folder: TextFolder = None,
) -> None:
    """Train a flow, which makes all of a sound at once out of noise, on captioned recordings: on the latents of a
    codec, not quantized, and the text encoder of a model.

    Examples are made on the fly, as for a language model. Written as it goes: log.jsonl, sounds for a few prompts with
    spectrograms, checkpoints, and model/. Stopped, it goes on with --resume.
    """
    clips = run.clips()
    from audiogen_cli.hub import checkpoint
    from audiogen_cli.training import flow as training

    base, text, folders = _hearing(model, codec_folder, text_folder)
    plan = training.fitted(run.plan(training.FlowRecipe), base, text)
    begun: Any = checkpoint.load(run.start, expect=("flow",)) if run.start else None
    sets = run.read(clips, base.sample_rate, base.channels)
    examples, validation = training.example_sources(plan, base, sets)
    source = run.source(sets.train.clips)
    with console.waiting("looking at the latents"):
        task = training.FlowTask(plan, base, text, examples, validation, source, begun, folders)
    run.train(task, plan)


@app.command()
@with_run
def entropy(run: Run, model: options.ModelName = options.CODEC, codec_folder: CodecFolder = None) -> None:
    """Train the small model that makes compressed files smaller, on the codes of a codec; captions are not needed.

    Each evaluation says how many bits a code of the held-out recordings takes. Written as it goes: log.jsonl,
    checkpoints, and model/. Stopped, it goes on with --resume.
    """
    clips = run.clips(uncaptioned=True)
    from audiogen_cli.hub import catalog, checkpoint
    from audiogen_cli.training import entropy as training

    base: Any = checkpoint.load(codec_folder or catalog.find(model).folder / "codec", expect=checkpoint.CODECS)
    plan = training.fitted(run.plan(training.EntropyRecipe), base)
    begun: Any = checkpoint.load(run.start, expect=("entropy-lm",)) if run.start else None
    sets = run.read(clips, base.sample_rate, base.channels)
    with console.waiting("encoding the recordings"):
        known, held_out = (training.encode(base, subset.recordings) for subset in sets)
    run.train(training.EntropyTask(plan, known, held_out, run.source(sets.train.clips), begun), plan)


@app.command()
@with_run
def clap(
    run: Run,
    codec_folder: Annotated[
        Path | None,
        typer.Option("--codec", metavar="FOLDER", help="Some sounds are heard through it. (Default: none are.)"),
    ] = None,
    text_folder: TextFolder = None,
    model: options.ModelName = options.MODEL,
) -> None:
    """Train a scorer that says how well a sound answers a text, on captioned recordings.

    As the folder `clap` of a model it chooses among candidates (audiolm generate --candidates); it hears texts by the
    encoder of that model. Written as it goes: log.jsonl, checkpoints, and model/. Stopped, it goes on with --resume.
    """
    clips = run.clips()
    from audiogen_cli.conditioners.text import T5Conditioner
    from audiogen_cli.hub import catalog, checkpoint
    from audiogen_cli.training import clap as training

    with console.waiting("loading the text encoder"):
        text = T5Conditioner.load(text_folder or catalog.find(model).folder / "text", "cpu")
        base: Any = checkpoint.load(codec_folder, expect=checkpoint.CODECS) if codec_folder else None
    plan = training.fitted(run.plan(training.CLAPRecipe), text, base)
    begun: Any = checkpoint.load(run.start, expect=("clap",)) if run.start else None
    sets = run.read(clips, plan.model.sample_rate, 1)
    with console.waiting("preparing what it will be asked"):
        pool, questions = training.sources(plan, sets, text, base)
    run.train(training.CLAPTask(plan, pool, questions, run.source(sets.train.clips), begun), plan)


def _hearing(
    model: str, codec_folder: Path | None, text_folder: Path | None
) -> tuple[Codec, T5Conditioner, dict[str, Path]]:
    """The codec and the text encoder to train with, and their folders: those named, or else the model's."""
    from audiogen_cli.conditioners.text import T5Conditioner
    from audiogen_cli.hub import catalog, checkpoint

    folders = {
        "codec": codec_folder or catalog.find(model).folder / "codec",
        "text": text_folder or catalog.find(model).folder / "text",
    }
    with console.waiting("loading the codec and the text encoder"):
        base: Any = checkpoint.load(folders["codec"], expect=checkpoint.CODECS)
        return base, T5Conditioner.load(folders["text"], "cpu"), folders


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
