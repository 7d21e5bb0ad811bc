"""audiolm generate | continue: validate, plan, and only then load torch and make sound."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import typer

from audiogen_cli import __version__
from audiogen_cli.cli import console, options, requests
from audiogen_cli.cli.models import find
from audiogen_cli.cli.requests import Job, Row
from audiogen_cli.config import to_dict
from audiogen_cli.errors import InputError, ModelError
from audiogen_cli.hub import catalog
from audiogen_cli.pipelines.recipe import Kind, Recipe, check_prompt, from_comment, to_comment

if TYPE_CHECKING:
    from torch import Tensor

    from audiogen_cli.data.audio import Audio
    from audiogen_cli.hub.catalog import Device, Dtype, Entry, Model
    from audiogen_cli.models.decoding import Sampling
    from audiogen_cli.pipelines.generate import Progress

BESIDE_LIKE = {"like", "output", "force", "spectrogram", "as_json", "model", "device", "dtype", "recording", "voice"}
_DEPTHS: dict[str, options.BitDepth] = {"PCM_24": "24", "PCM_32": "float", "FLOAT": "float", "DOUBLE": "float"}


class Run(NamedTuple):
    """How the jobs of one command are carried out."""

    device: Device
    dtype: Dtype
    force: bool
    spectrogram: bool
    as_json: bool
    resume: bool = False


class Chosen(NamedTuple):
    """The options that say how codes are drawn; None is the model's own."""

    extend_stride: float | None
    guidance: float | None
    temperature: float | None
    top_k: int | None
    top_p: float | None


T = TypeVar("T")
Maker = Callable[["Model", Sequence[Job]], "Generator[Progress, None, list[Tensor]]"]


def generate(
    ctx: typer.Context,
    text: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT...", help="What to hear. Each text becomes its own file.")
    ] = None,
    prompts: options.Prompts = None,
    unconditional: options.Unconditional = False,
    like: options.Like = None,
    seconds: options.ModelSeconds = None,
    variations: options.Variations = 1,
    seed: options.Seed = None,
    guidance: options.Guidance = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
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
        how = (extend_stride, output, file_format, bit_depth, fade, spectrogram, as_json, force, model, device, dtype)
        continue_(ctx, Path(text[0]), "", like, seconds, variations, seed, guidance, temperature, top_k, top_p, *how)
        return
    run = Run(device, dtype, force, spectrogram, as_json, resume=prompts is not None)
    if like is not None:
        _carry_out(*like_job(ctx, like, output, run, "generate"), _generated)
        return
    rows = _rows(text or [], prompts, unconditional)
    count = len(rows) * variations
    place = requests.destination(output, count, file_format)
    check_stdout(output, as_json)
    entry = find(model)
    chosen = Chosen(extend_stride, guidance, temperature, top_k, top_p)
    settings = common_settings("generate", entry, model, chosen, normalize, fade, place.format, bit_depth or "16")
    seed = seed if seed is not None else 0 if prompts else requests.random_seed()
    jobs = requests.plan(requests.expand(rows, seconds or entry.card.seconds, seed, variations), place, settings)
    requests.check_places(jobs, force, spectrogram, may_exist=run.resume)
    _carry_out(jobs, entry, run, _generated)


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
        _carry_out(*job, _continued(prompt), prompt.sample_rate)
        return
    check_texts([text], empty=True)
    place = requests.destination(output, variations, file_format)
    entry = find(model)
    prompt, depth, digest = read_recording(recording)
    depth = bit_depth or ("24" if depth == "float" and place.format == "flac" else depth)
    chosen = Chosen(extend_stride, guidance, temperature, top_k, top_p)
    settings = common_settings("continue", entry, model, chosen, "none", fade, place.format, depth)
    settings = dataclasses.replace(settings, source=recording.name, source_hash=digest)
    first = requests.random_seed() if seed is None else seed
    stem = requests.continued_stem(recording.name)
    length = seconds or entry.card.seconds
    jobs = requests.plan(requests.expand([Row(text)], length, first, variations, stem), place, settings)
    requests.check_places(jobs, force, spectrogram)
    _carry_out(jobs, entry, run, _continued(prompt), prompt.sample_rate)


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
    drawn = own | {name: value for name, value in chosen._asdict().items() if value is not None}
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
    recipe = _recipe_of(like)
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


def _recipe_of(path: Path) -> Recipe:
    from audiogen_cli.data import audio

    recipe = from_comment(audio.info(path).comment)
    if recipe is None:
        raise InputError(f"{path} does not say how it was made; give a file that audiolm generate has written.")
    return recipe


def read_recording(path: Path) -> tuple[Audio, options.BitDepth, str]:
    """The recording, the bit depth that keeps it as it is, and twelve hex digits of its file."""
    from audiogen_cli.data import audio

    sound = audio.read(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return sound, _DEPTHS.get(audio.info(path).subtype, "16"), digest


def _sampling(recipe: Recipe) -> Sampling:
    from audiogen_cli.models.decoding import Sampling

    return Sampling(recipe.temperature, recipe.top_k, recipe.top_p, recipe.guidance)


def _generated(model: Model, jobs: Sequence[Job]) -> Generator[Progress, None, list[Tensor]]:
    recipes = [job.recipe for job in jobs]
    same = recipes[0]
    prompts, seeds = [recipe.prompt or None for recipe in recipes], [recipe.seed for recipe in recipes]
    how = (_sampling(same), same.normalize, same.fade, same.extend_stride)
    return _pipeline(model).generate(model, prompts, same.seconds, seeds, *how)


def _pipeline(model: Any) -> Any:
    """The module whose `generate` and `continue_audio` are this model's."""
    from audiogen_cli.pipelines import audiolm
    from audiogen_cli.pipelines import generate as plain

    return audiolm if isinstance(model, audiolm.AudioLM) else plain


def _loaded(entry: Entry, run: Run) -> Any:
    if not entry.staged:
        return catalog.load(entry, run.device, run.dtype)
    from audiogen_cli.pipelines import audiolm

    return audiolm.load(entry.folder, catalog.resolve_device(run.device), entry.card.domain, entry.card.lanes)


def _continued(prompt: Audio) -> Maker:
    def make(model: Model, jobs: Sequence[Job]) -> Generator[Progress, None, list[Tensor]]:
        same, seeds = jobs[0].recipe, [job.recipe.seed for job in jobs]
        how, stride = _sampling(same), same.extend_stride
        return _pipeline(model).continue_audio(model, *prompt, same.prompt, same.seconds, seeds, how, same.fade, stride)

    return make


def _carry_out(jobs: list[Job], entry: Entry, run: Run, make: Maker, sample_rate: int | None = None) -> None:
    """Makes and writes what is not there yet, batch by batch, so that what is done is safe."""
    device = catalog.resolve_device(run.device)
    dtype = catalog.resolve_dtype(run.dtype, device)
    jobs = [job._replace(recipe=dataclasses.replace(job.recipe, device=device, dtype=dtype)) for job in jobs]
    if run.resume and not run.force:
        jobs = _missing(jobs, run)
    if not jobs:
        return
    watch = console.Stopwatch()
    with console.waiting(f"loading {entry.card.name}"):
        model = _loaded(entry, run)
    made, loaded = 0.0, watch.seconds
    for batch in requests.batches(jobs, max(requests.TOGETHER, entry.card.lanes)):
        for job, sound in zip(batch, watched(make(model, batch), batch), strict=True):
            write(job, sound, sample_rate or model.sample_rate, run)
            made += job.recipe.seconds
    seeds = f"seed {jobs[0].recipe.seed}" + (f" to {jobs[-1].recipe.seed}" if len(jobs) > 1 else "")
    spent = watch.seconds - loaded
    pace = f"{made / spent:.1f} times real time"
    console.say(f"{seeds}: {made:.1f} s of sound in {spent:.1f} s, {pace}, after {loaded:.1f} s of loading")


def _missing(jobs: list[Job], run: Run) -> list[Job]:
    """The jobs whose file is not there; one that is there must have been made the same way."""
    missing = []
    for job in jobs:
        if job.path is None or not job.path.exists():
            missing.append(job)
            continue
        if _recipe_of(job.path) != job.recipe:
            raise InputError(f"{job.path} is there, but was made otherwise; overwrite it with --force, or choose -o.")
        _report(job, run)
    if len(missing) < len(jobs):
        console.say(f"{len(jobs) - len(missing)} of {len(jobs)} sounds are there already.")
    return missing


def watched(steps: Generator[Progress, None, T], jobs: Sequence[Job]) -> T:
    """Runs a pipeline to its end behind a progress bar."""
    total = sum(job.recipe.seconds for job in jobs)
    watch = console.Stopwatch()
    with console.progress(jobs[0].recipe.prompt, total) as show:
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                made: T = stop.value
                return made
            done = total * step.done_frames / max(step.total_frames, 1)
            show(done, watch.pace(done))


def write(job: Job, sound: Tensor, sample_rate: int, run: Run) -> None:
    """The picture first: a sound that is there has its picture."""
    from audiogen_cli.data import audio, image

    recipe = job.recipe
    if job.path is None:
        console.result_bytes(audio.encode(sound, sample_rate, recipe.bit_depth, recipe.format, to_comment(recipe)))
        return
    if run.spectrogram and job.picture:
        image.write_spectrogram(job.picture, sound, sample_rate, run.force or run.resume)
    audio.write(job.path, sound, sample_rate, recipe.bit_depth, recipe.format, to_comment(recipe), run.force)
    _report(job, run)


def _report(job: Job, run: Run) -> None:
    if run.as_json:
        picture = {"spectrogram": str(job.picture)} if run.spectrogram else {}
        console.result_json({"path": str(job.path)} | picture | to_dict(job.recipe))
    else:
        console.result(str(job.path))
