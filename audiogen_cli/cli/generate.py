"""audiolm generate | continue: validate, plan, and only then load torch and make sound."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from audiogen_cli import __version__
from audiogen_cli.cli import console, making, options, requests
from audiogen_cli.cli.making import Run
from audiogen_cli.cli.models import find
from audiogen_cli.cli.requests import Job, Row
from audiogen_cli.errors import InputError, ModelError
from audiogen_cli.pipelines.recipe import Kind, Recipe, check_prompt

if TYPE_CHECKING:
    from audiogen_cli.data.audio import Audio
    from audiogen_cli.hub.catalog import Entry

BESIDE_LIKE = {"like", "output", "force", "spectrogram", "as_json", "model", "device", "dtype"}
BESIDE_LIKE |= {"recording", "voice", "melody"}
_DEPTHS: dict[str, options.BitDepth] = {"PCM_24": "24", "PCM_32": "float", "FLOAT": "float", "DOUBLE": "float"}


class Chosen(NamedTuple):
    """The options that say how frames are drawn; None is the model's own."""

    extend_stride: float | None
    guidance: float | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    steps: int | None = None


def generate(
    ctx: typer.Context,
    text: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT...", help="What to hear. Each text becomes its own file.")
    ] = None,
    prompts: options.Prompts = None,
    melody: options.Melody = None,
    unconditional: options.Unconditional = False,
    like: options.Like = None,
    seconds: options.ModelSeconds = None,
    variations: options.Variations = 1,
    seed: options.Seed = None,
    candidates: options.Candidates = None,
    layers: options.Layers = None,
    guidance: options.Guidance = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    steps: options.FlowSteps = None,
    extend_stride: options.ExtendStride = None,
    output: options.Output = None,
    file_format: options.OutputFormat = None,
    bit_depth: options.OutputBitDepth = None,
    normalize: options.Normalize = "loudness",
    fade: options.Fade = 0.01,
    spectrogram: options.Spectrogram = False,
    as_json: options.Json = False,
    force: options.Force = False,
    model: options.ModelName = options.MODEL,
    device: options.DeviceName = "auto",
    dtype: options.DtypeName = "auto",
) -> None:
    """Make sound from text; with an AudioLM model a recording in its place is gone on from (audiolm continue).

    The file's path goes to stdout; the prompt, the seed and all parameters are stored in the file (audiolm info FILE).
    """
    if text and len(text) == 1 and _is_recording(text[0]):
        if candidates is not None:
            raise InputError("candidates are told apart by the text they answer; leave out --candidates.")
        if layers is not None:
            raise InputError("layers are told apart in a text; leave out --layers.")
        if melody is not None:
            raise InputError("what goes on from a recording follows no other melody; leave out --melody.")
        rest = (output, file_format, bit_depth, fade, spectrogram, as_json, force, model, device, dtype)
        how = (guidance, temperature, top_k, top_p, steps, extend_stride, *rest)
        continue_(ctx, Path(text[0]), "", like, seconds, variations, seed, *how)
        return
    run = Run(device, dtype, force, spectrogram, as_json, resume=prompts is not None)
    if like is not None:
        job = like_job(ctx, like, output, run, "generate")
        making.carry_out(*job, making.generated(_same_melody(like, job[0][0].recipe, melody)))
        return
    rows = _rows(text or [], prompts, unconditional)
    count = len(rows) * variations
    place = requests.destination(output, count, file_format)
    check_stdout(output, as_json)
    entry = find(model)
    chosen = Chosen(extend_stride, guidance, temperature, top_k, top_p, steps)
    settings = common_settings("generate", entry, model, chosen, normalize, fade, place.format, bit_depth or "16")
    for name, given in (("layers", layers), ("melody", melody)):
        if given and entry.staged:
            raise InputError(f"{options.flag(name)} means nothing to {entry.card.name}; leave it out.")
    settings = dataclasses.replace(settings, layers=entry.card.layers if layers is None else layers)
    tune, digest = _melody(melody)
    settings = dataclasses.replace(settings, melody=None if melody is None else str(melody), melody_hash=digest)
    seed = seed if seed is not None else 0 if prompts else requests.random_seed()
    drawn = candidates or (1 if unconditional else entry.card.candidates)
    length = seconds or entry.card.seconds
    jobs = requests.plan(requests.expand(rows, length, seed, variations, candidates=drawn), place, settings)
    _check_candidates(jobs, entry)
    requests.check_places(jobs, force, spectrogram, may_exist=run.resume)
    making.carry_out(jobs, entry, run, making.generated(tune))


def continue_(
    ctx: typer.Context,
    recording: Annotated[Path, typer.Argument(metavar="PROMPT", help="The recording to go on from.")],
    text: Annotated[str, typer.Option("--text", help="What is to be heard next.", rich_help_panel="What to make")] = "",
    like: options.Like = None,
    seconds: options.ModelSeconds = None,
    variations: options.Variations = 1,
    seed: options.Seed = None,
    guidance: options.Guidance = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    steps: options.FlowSteps = None,
    extend_stride: options.ExtendStride = None,
    output: options.Output = None,
    file_format: options.OutputFormat = None,
    bit_depth: options.OutputBitDepth = None,
    fade: options.Fade = 0.01,
    spectrogram: options.Spectrogram = False,
    as_json: options.Json = False,
    force: options.Force = False,
    model: options.ModelName = options.MODEL,
    device: options.DeviceName = "auto",
    dtype: options.DtypeName = "auto",
) -> None:
    """Go on where a recording ends.

    Up to the seam the new file holds the recording's own samples, at its own rate and channels; --seconds of new sound
    follow.
    """
    run = Run(device, dtype, force, spectrogram, as_json)
    check_stdout(output, as_json)
    if like is not None:
        prompt, _, digest = read_recording(recording)
        job = like_job(ctx, like, output, run, "continue", digest)
        making.carry_out(*job, making.continued(prompt), prompt)
        return
    check_texts([text], empty=True)
    place = requests.destination(output, variations, file_format)
    entry = find(model)
    prompt, depth, digest = read_recording(recording)
    depth = bit_depth or ("24" if depth == "float" and place.format == "flac" else depth)
    chosen = Chosen(extend_stride, guidance, temperature, top_k, top_p, steps)
    settings = common_settings("continue", entry, model, chosen, "none", fade, place.format, depth)
    settings = dataclasses.replace(settings, source=recording.name, source_hash=digest)
    first = requests.random_seed() if seed is None else seed
    stem = requests.continued_stem(recording.name)
    length = seconds or entry.card.seconds
    jobs = requests.plan(requests.expand([Row(text)], length, first, variations, stem), place, settings)
    requests.check_places(jobs, force, spectrogram)
    making.carry_out(jobs, entry, run, making.continued(prompt), prompt)


def _melody(path: Path | None) -> tuple[Audio | None, str | None]:
    """The recording and twelve hex digits of its file."""
    if path is None:
        return None, None
    sound, _, digest = read_recording(path)
    return sound, digest


def _same_melody(like: Path, recipe: Recipe, given: Path | None) -> Audio | None:
    """The melody that `like` was made with, from where it was then or from where it is `given` now."""
    if recipe.melody is None:
        if given is not None:
            raise InputError(f"{like} was made without a melody; leave out --melody.")
        return None
    path = given or Path(recipe.melody)
    if given is None and not path.is_file():
        raise InputError(f"{like} was made with the melody {path}, which is not there; say by --melody where it is.")
    sound, digest = _melody(path)
    if digest != recipe.melody_hash:
        raise InputError(f"{like} was made with another melody than {path} holds now; say by --melody where that is.")
    return sound


def _is_recording(text: str) -> bool:
    """Whether a text is the name of a sound file that is there."""
    return Path(text).suffix.lower() in requests.RECORDINGS and len(text) < 256 and Path(text).is_file()


def _rows(texts: Sequence[str], prompts: Path | None, unconditional: bool) -> list[Row]:
    if unconditional and (texts or prompts is not None):
        raise InputError("--unconditional makes sound from no text; leave out either it or the prompts.")
    if unconditional:
        return [Row("")]
    if prompts is not None:
        if texts:
            raise InputError("prompts come either from the command line or from --prompts; leave one out.")
        return requests.read_prompts(prompts)
    if not texts:
        raise InputError('say what to make, for example audiolm generate "dog barking in rain".')
    check_texts(texts)
    return [Row(text) for text in texts]


def check_texts(texts: Sequence[str], empty: bool = False) -> None:
    try:
        for text in texts:
            check_prompt(text, empty)
    except ValueError as error:
        raise InputError(str(error)) from error


def check_stdout(output: str | None, as_json: bool) -> None:
    if output != requests.STDOUT:
        return
    if as_json:
        raise InputError("--json and the sound cannot share stdout; name a file with -o.")
    if typer.get_text_stream("stdout").isatty():
        raise InputError("a terminal cannot play WAV bytes; send them on (-o - | player) or name a file with -o.")


def _check_candidates(jobs: Sequence[Job], entry: Entry) -> None:
    for recipe in (job.recipe for job in jobs):
        if recipe.candidates > 1 and not recipe.prompt:
            raise InputError("candidates are told apart by the text they answer; leave out --candidates.")
        if recipe.candidates > 1 and not entry.chooses:
            name, count = entry.card.name, recipe.candidates
            raise InputError(f"{name} has no scorer and no flow to choose among {count} candidates; ask for 1.")


def common_settings(
    kind: Kind,
    entry: Entry,
    model: str,
    chosen: Chosen,
    normalize: options.Normalization,
    fade: float,
    file_format: options.Format,
    bit_depth: options.BitDepth,
) -> requests.Settings:
    if entry.speaks != (kind == "speak"):
        other = "speak" if entry.speaks else "generate"
        raise ModelError(f"{entry.card.name} is not made for this; use `audiolm {other}`, or name another model.")
    own = dataclasses.asdict(entry.card.sampling) | {"extend_stride": entry.card.extend_stride}
    without: dict[str, Any] = {} if entry.draws else {"top_k": 0, "top_p": 0.0}
    without |= {} if entry.flows else {"steps": None}
    for name in without:
        if getattr(chosen, name) is not None:
            raise InputError(f"{options.flag(name)} means nothing to {entry.card.name}; leave it out.")
    drawn = own | without | {name: value for name, value in chosen._asdict().items() if value is not None}
    return requests.Settings(
        kind=kind,
        **drawn,
        normalize=normalize,
        fade=fade,
        format=file_format,
        bit_depth=bit_depth,
        model=model,
        model_hash=entry.hash,
        device="auto",
        dtype="auto",
        version=__version__,
    )


def like_job(
    ctx: typer.Context, like: Path, output: str | None, run: Run, kind: Kind, source_hash: str | None = None
) -> tuple[list[Job], Entry, Run]:
    """One job with another file's recipe; `source_hash`: of the recording that goes with it."""
    given = {str(param.name): param.opts[0] for param in ctx.command.params if _is_given(ctx, str(param.name))}
    extra = [option for name, option in given.items() if name not in BESIDE_LIKE]
    if extra:
        raise InputError(f"--like takes everything from {like}; leave out {', '.join(extra)}.")
    recipe = making.recipe_of(like)
    if recipe.kind != kind:
        raise InputError(f"{like} was made by audiolm {recipe.kind}; use `audiolm {recipe.kind} --like` for it.")
    if recipe.source_hash != source_hash:
        raise InputError(f"{like} was made with another recording than this one; give {recipe.source or 'none'}.")
    entry = find(ctx.params["model"] if "model" in given else recipe.model)
    _check_same_program(like, recipe, entry)
    place = requests.destination(output, 1, recipe.format)
    goes_on = recipe.source is not None and kind == "continue"
    stem = requests.continued_stem(recipe.source or "") if goes_on else requests.slug(recipe.prompt)
    name = place.name or f"{stem}-{recipe.seed}.{recipe.format}"
    job = Job(dataclasses.replace(recipe, version=__version__), place.folder and place.folder / name)
    requests.check_places([job], run.force, run.spectrogram)
    device: Any = run.device if "device" in given else recipe.device
    dtype: Any = run.dtype if "dtype" in given else recipe.dtype
    return [job], entry, run._replace(device=device, dtype=dtype)


def _check_same_program(like: Path, recipe: Recipe, entry: Entry) -> None:
    if entry.hash != recipe.model_hash:
        raise ModelError(
            f"{like} was made with model {recipe.model_hash}, and {entry.card.name} here is {entry.hash}; name the "
            f"same model with --model, or make another sound from its prompt and seed {recipe.seed}."
        )
    if recipe.version != __version__:
        console.say(f"note: {like} was made by version {recipe.version}; this is {__version__}, which may differ.")


def _is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE" and ctx.params[name] not in (None, [], ())


def read_recording(path: Path) -> tuple[Audio, options.BitDepth, str]:
    """The recording, the bit depth that keeps it as it is, and twelve hex digits of its file."""
    from audiogen_cli.data import audio

    sound = audio.read(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return sound, _DEPTHS.get(audio.info(path).subtype, "16"), digest
