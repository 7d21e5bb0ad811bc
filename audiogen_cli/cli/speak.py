"""audiolm speak: a text in the voice of a recording."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiogen_cli.cli import console, generate, making, options, requests
from audiogen_cli.cli.generate import Chosen
from audiogen_cli.cli.making import Run
from audiogen_cli.cli.models import find
from audiogen_cli.cli.requests import Job, Row
from audiogen_cli.errors import InputError
from audiogen_cli.hub import catalog
from audiogen_cli.pipelines.recipe import MAX_SECONDS, MIN_SECONDS

if TYPE_CHECKING:
    from audiogen_cli.data.audio import Audio
    from audiogen_cli.hub.catalog import Entry

_TRIES = 3
_UNFINISHED = 1

VoiceFile = Annotated[
    Path | None,
    typer.Option("--voice", metavar="FILE", help="A recording whose voice speaks.", rich_help_panel="What to make"),
]
Transcript = Annotated[
    str,
    typer.Option(
        help="What the recording says, word for word; without it the voice is followed less closely.",
        rich_help_panel="What to make",
    ),
]
Tries = Annotated[
    int,
    typer.Option(
        min=1,
        max=100,
        help="How often a sentence is tried, with other seeds, until it comes to its end.",
        rich_help_panel="How it is chosen",
    ),
]
ModelFolder = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="NAME", help="A VALL-E: a folder.", rich_help_panel="The machine"),
]


def speak(
    ctx: typer.Context,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What to say.")] = None,
    voice: VoiceFile = None,
    transcript: Transcript = "",
    like: options.Like = None,
    seed: options.Seed = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    tries: Tries = _TRIES,
    output: options.Output = None,
    file_format: options.OutputFormat = None,
    bit_depth: options.OutputBitDepth = None,
    normalize: options.Normalize = "loudness",
    fade: options.Fade = 0.01,
    spectrogram: options.Spectrogram = False,
    as_json: options.Json = False,
    force: options.Force = False,
    model: ModelFolder = None,
    device: options.DeviceName = "auto",
) -> None:
    """Say a text in the voice of a recording, with a VALL-E that `audiolm train valle` has made.

    The file's path goes to stdout; the text, the seed and all parameters are stored in the file (audiolm info FILE). If
    the speech does not come to its end in any of the tries, the last one is written all the same, and the exit code
    is 1.
    """
    run = Run(device, "auto", force, spectrogram, as_json)
    generate.check_stdout(output, as_json)
    if like is not None:
        sound, digest = _heard(voice)
        _carry_out(*generate.like_job(ctx, like, output, run, "speak", digest), sound)
        return
    if text is None:
        raise InputError('say what to speak, for example audiolm speak "good morning" --voice prompt.wav.')
    generate.check_texts([text])
    if transcript and voice is None:
        raise InputError("--transcript says what the recording of --voice says; give both, or neither.")
    if model is None:
        raise InputError(
            "no model that speaks comes with the program; train one with `audiolm train valle` and name its folder "
            "with --model."
        )
    place = requests.destination(output, 1, file_format)
    entry = find(model)
    sound, digest = _heard(voice)
    if top_k is not None and top_p is None:
        top_p = 0.0  # which would override it
    chosen = Chosen(None, None, temperature, top_k, top_p)
    settings = generate.common_settings("speak", entry, model, chosen, normalize, fade, place.format, bit_depth or "16")
    settings = dataclasses.replace(
        settings,
        source=None if voice is None else voice.name,
        source_hash=digest,
        transcript=transcript or None,
        tries=tries,
    )
    first = requests.random_seed() if seed is None else seed
    jobs = requests.plan(requests.expand([Row(text)], entry.card.seconds, first, 1), place, settings)
    requests.check_places(jobs, force, spectrogram)
    _carry_out(jobs, entry, run, sound)


def _heard(voice: Path | None) -> tuple[Audio | None, str | None]:
    """The recording and twelve hex digits of its file."""
    if voice is None:
        return None, None
    sound, _, digest = generate.read_recording(voice)
    return sound, digest


def _carry_out(jobs: list[Job], entry: Entry, run: Run, voice: Audio | None) -> None:
    """Speaks and writes; ends the program with 1 when the speech went wrong."""
    from audiogen_cli.data import audio
    from audiogen_cli.models.decoding import Sampling
    from audiogen_cli.pipelines import candidates
    from audiogen_cli.pipelines.speak import Request, Speaker

    [job], watch, device = jobs, console.Stopwatch(), catalog.resolve_device(run.device)
    recipe = dataclasses.replace(job.recipe, device=device, dtype="float32")
    with console.waiting(f"loading {entry.card.name}"):
        speaker = Speaker.load(entry.folder, device, entry.card.lanes)
    loaded, waveform = watch.seconds, None
    if voice is not None:
        waveform = audio.remix(voice.waveform, speaker.codec.channels)
        waveform = audio.resample(waveform, voice.sample_rate, speaker.sample_rate)
    how = Sampling(recipe.temperature, recipe.top_k, recipe.top_p)
    request = Request(recipe.prompt, recipe.seed, waveform, recipe.transcript or "", how, recipe.tries or _TRIES)
    spoken = making.watched(speaker.speak(request), [job])
    sound = audio.normalize(spoken.waveform, speaker.sample_rate, recipe.normalize)
    sound = audio.fade(sound, speaker.sample_rate, recipe.fade)
    seconds = sound.shape[1] / speaker.sample_rate
    known = dataclasses.replace(
        recipe, seconds=min(max(round(seconds, 3), MIN_SECONDS), MAX_SECONDS), trouble=spoken.trouble or None
    )
    making.write(job._replace(recipe=known), candidates.Chosen(sound), speaker.sample_rate, run)
    tried = "1 try" if spoken.tries == 1 else f"{spoken.tries} tries"
    spent = watch.seconds - loaded
    console.say(f"seed {recipe.seed}, {tried}: {seconds:.1f} s in {spent:.1f} s, after {loaded:.1f} s of loading")
    if spoken.trouble:
        console.error(spoken.trouble)
        raise typer.Exit(_UNFINISHED)
