"""Each shared option, declared once: its name, its help and the range in which it makes sense."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from audiogen_cli.hub.catalog import DEFAULT_CODEC, DEFAULT_MODEL, Device, Dtype, Padding
from audiogen_cli.pipelines.recipe import (
    MAX_CANDIDATES,
    MAX_SECONDS,
    MAX_SEED,
    MIN_SECONDS,
    BitDepth,
    Format,
    Normalization,
)

__all__ = ["BitDepth", "Device", "Dtype", "Format", "Normalization"]

_WHAT, _HOW, _WHERE, _MACHINE = "What to make", "How it is chosen", "The file", "The machine"


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH",
        help="File or existing folder to write to, or - for WAV on stdout. (Default: a name from the prompt, here.)",
        show_default=False,
        rich_help_panel=_WHERE,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that exist.", rich_help_panel=_WHERE)]
OutputFormat = Annotated[
    Format | None,
    typer.Option("--format", help="File format. (Default: by the name, else wav.)", rich_help_panel=_WHERE),
]
OutputBitDepth = Annotated[
    BitDepth | None,
    typer.Option(
        "--bit-depth", help="Bits of a sample. (Default: 16, or the prompt recording's.)", rich_help_panel=_WHERE
    ),
]
Normalize = Annotated[
    Normalization,
    typer.Option(
        "--normalize",
        help="peak: -1 dBFS; loudness: -16 LUFS and no peak above -1 dBFS; none: as decoded.",
        rich_help_panel=_WHERE,
    ),
]
Fade = Annotated[
    float,
    typer.Option(
        "--fade",
        min=0.0,
        max=60.0,
        callback=_finite,
        metavar="SECONDS",
        help="Fade at the ends, against clicks.",
        rich_help_panel=_WHERE,
    ),
]
Spectrogram = Annotated[
    bool, typer.Option("--spectrogram", help="Also draw a PNG beside the sound.", rich_help_panel=_WHERE)
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout for each file.", rich_help_panel=_WHERE)]
ModelSeconds = Annotated[
    float | None,
    typer.Option(
        "--seconds",
        min=MIN_SECONDS,
        max=MAX_SECONDS,
        callback=_finite,
        metavar="SECONDS",
        help=f"Length of the (new) sound, {MIN_SECONDS:g} to {MAX_SECONDS:g}. (Default: the model's.)",
        rich_help_panel=_WHAT,
    ),
]
ExtendStride = Annotated[
    float | None,
    typer.Option(
        "--extend-stride",
        min=MIN_SECONDS,
        max=MAX_SECONDS,
        callback=_finite,
        metavar="SECONDS",
        help="Sound beyond the model's window is made in hops of so much. (Default: the model's.)",
        rich_help_panel=_HOW,
    ),
]
Unconditional = Annotated[
    bool, typer.Option("--unconditional", help="Make something from no text at all.", rich_help_panel=_WHAT)
]
Seconds = Annotated[
    float,
    typer.Option(
        "--seconds",
        min=MIN_SECONDS,
        max=MAX_SECONDS,
        callback=_finite,
        metavar="SECONDS",
        help=f"Length of the (new) sound, {MIN_SECONDS:g} to {MAX_SECONDS:g}.",
        rich_help_panel=_WHAT,
    ),
]
Variations = Annotated[
    int,
    typer.Option(
        "-n", "--variations", min=1, max=1000, help="How many of each, with seeds counting up.", rich_help_panel=_WHAT
    ),
]
Candidates = Annotated[
    int | None,
    typer.Option(
        "--candidates",
        min=1,
        max=MAX_CANDIDATES,
        help="Draw so many sounds for each, and keep the one that answers its text best. (Default: the model's.)",
        rich_help_panel=_HOW,
    ),
]
Layers = Annotated[
    bool | None,
    typer.Option(
        "--layers/--no-layers",
        help='Make the sounds of a text like "dog barking in rain" one by one and mix them, or all at once. '
        "(Default: the model's.)",
        rich_help_panel=_HOW,
    ),
]
Like = Annotated[
    Path | None,
    typer.Option(
        "--like", metavar="FILE", help="Make the same bytes again as in FILE, made earlier.", rich_help_panel=_WHAT
    ),
]
Melody = Annotated[
    Path | None,
    typer.Option(
        "--melody",
        metavar="FILE",
        help="A recording whose tune the sound follows, with a model that hears melodies (musicgen-melody). All of it "
        "is heard: give a stem without drums and bass for a clearer melody.",
        rich_help_panel=_WHAT,
    ),
]
Prompts = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        metavar="FILE",
        help="Many prompts: CSV or JSONL (prompt, and if you like seed, seconds and candidates), or a prompt a line. "
        "Files that are there already are kept, so a run that was stopped goes on. Seeds start at 0.",
        rich_help_panel=_WHAT,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        min=0,
        max=MAX_SEED,
        help="The same seed makes the same sound. (Default: random.)",
        rich_help_panel=_HOW,
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        min=0.0,
        max=100.0,
        callback=_finite,
        help="How strongly the text pulls; 1 is off. (Default: the model's.)",
        rich_help_panel=_HOW,
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        min=0.0,
        max=100.0,
        callback=_finite,
        help="Higher is wilder; 0 always takes the likeliest. (Default: the model's.)",
        rich_help_panel=_HOW,
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        "--top-k", min=0, help="Draw among the k likeliest; 0: all. (Default: the model's.)", rich_help_panel=_HOW
    ),
]
FlowSteps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        min=1,
        max=1000,
        help="Steps from noise to sound, of a model that has a flow. (Default: the model's.)",
        rich_help_panel=_HOW,
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        "--top-p",
        min=0.0,
        max=1.0,
        callback=_finite,
        help="Draw among the likeliest that sum to p; 0: use top-k. (Default: the model's.)",
        rich_help_panel=_HOW,
    ),
]
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="A name (audiolm models list), owner/name on the Hub, or a folder.",
        rich_help_panel=_MACHINE,
    ),
]
DeviceName = Annotated[Device, typer.Option("--device", help="Where to compute.", rich_help_panel=_MACHINE)]
DtypeName = Annotated[Dtype, typer.Option("--dtype", help="Numbers of the language model.", rich_help_panel=_MACHINE)]
StoredDtype = Annotated[Dtype, typer.Option("--dtype", help="Numbers of the language model; auto keeps its own.")]
TextPadding = Annotated[
    Padding,
    typer.Option(
        "--padding",
        help="audiocraft: the padding of a text is heard as zero vectors, as the weights were trained; masked: it is "
        "not heard.",
    ),
]

MODEL = DEFAULT_MODEL
CODEC = DEFAULT_CODEC


def flag(name: str) -> str:
    """How an option is written: top_k is --top-k."""
    return "--" + name.replace("_", "-")
