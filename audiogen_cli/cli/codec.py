"""audiolm compress | decompress: recordings to .ecdc files and back, one bad file not stopping the others."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from audiogen_cli.cli import console, options
from audiogen_cli.cli.batches import Job, plan
from audiogen_cli.errors import AudiolmError, InputError, ModelError, OutputError

if TYPE_CHECKING:
    from audiogen_cli.formats.ecdc import Header
    from audiogen_cli.hub.codecs import NamedCodec
    from audiogen_cli.pipelines.compress import Progress, Summary
    from audiogen_cli.pipelines.entropy import EntropyModel

_SHOWN = 20  # files in the table at the end
_WHAT, _WHERE, _MACHINE = "What to make", "The file", "The machine"

Recursive = Annotated[
    bool, typer.Option("-r", "--recursive", help="Take folders, with all that is in them.", rich_help_panel=_WHERE)
]
Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH",
        help="File or folder to write to, or - for stdout; a folder gets the tree of the one it is made from. "
        "(Default: beside the input.)",
        show_default=False,
        rich_help_panel=_WHERE,
    ),
]


class Done(NamedTuple):
    """One file that went well. sound_size: bytes of the sound file; elapsed: seconds that it took."""

    name: str
    summary: Summary
    sound_size: int
    elapsed: float


def compress(
    recordings: Annotated[
        list[str], typer.Argument(metavar="RECORDING...", help="Recordings, folders with -r, or - for stdin.")
    ],
    output: Output = None,
    recursive: Recursive = False,
    kbps: Annotated[
        float | None,
        typer.Option(
            "--kbps",
            min=0.001,
            max=10_000.0,
            help="The rate, before an entropy model saves some of it. (Default: 6, or the codec's most.)",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    search: Annotated[
        int | None,
        typer.Option(
            "--search",
            min=1,
            max=64,
            help="Look for codes that many times as widely: nearer to the recording in as many codes, and slower. 1 is "
            "what the published codecs do. (Default: the codec's own; 4 for the one that comes along.)",
            show_default=False,
            rich_help_panel=_WHAT,
        ),
    ] = None,
    lm: Annotated[
        bool | None,
        typer.Option(
            "--lm/--no-lm",
            help="Smaller files of the same sound, by the codec's entropy model. (Default: where there is one, but not "
            "with the published EnCodec models, whose files could then be read on this kind of machine alone, with "
            "this torch and as many threads; files that cannot are told.)",
            show_default=False,
            rich_help_panel=_WHAT,
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="Whose codec: a name, owner/name on the Hub, a folder, or a .th file of EnCodec.",
            rich_help_panel=_MACHINE,
        ),
    ] = options.CODEC,
    device: options.DeviceName = "cpu",
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Make recordings small: 6 kbps and less.

    Any sound file, rate and number of channels; decompress gives them back. Paths go to stdout, a table of sizes to
    stderr.
    """
    from audiogen_cli.data.audio import SUFFIXES

    jobs = plan(recordings, output, recursive, SUFFIXES, ".ecdc")
    _check_stdout(jobs, as_json)
    from audiogen_cli.pipelines import compress as pipeline

    codec = _loaded(model, device)
    num_codebooks = pipeline.codebooks_for(codec.codec, kbps)
    if search is not None:
        pipeline.search(codec.codec, search)
    entropy = _entropy_model(codec) if _wants_entropy_model(codec, lm) else None

    def run(job: Job, source: Path | IO[bytes], sink: IO[bytes]) -> Generator[Progress, None, Summary]:
        return pipeline.compress(codec, source, sink, num_codebooks, entropy)

    _carry_out(jobs, run, as_json, force)


def decompress(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help=".ecdc files, folders with -r, or - for stdin.")
    ],
    output: Output = None,
    recursive: Recursive = False,
    restore: Annotated[
        bool,
        typer.Option(
            "--restore/--as-decoded",
            help="At the recording's own rate, channels and length, or at the codec's.",
            rich_help_panel=_WHAT,
        ),
    ] = True,
    file_format: Annotated[
        Literal["wav", "flac"] | None,
        typer.Option("--format", help="File format. (Default: by the name, else wav.)", rich_help_panel=_WHERE),
    ] = None,
    bit_depth: Annotated[
        options.BitDepth, typer.Option("--bit-depth", help="Bits of a sample.", rich_help_panel=_WHERE)
    ] = "16",
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="Whose codec, where the file's own word for it is not enough: a name, a folder, or a .th file.",
            rich_help_panel=_MACHINE,
        ),
    ] = None,
    device: options.DeviceName = "cpu",
    as_json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Give back the sound of .ecdc files, those of the encodec package included.

    A damaged file is an error, never noise, where it was written by this program.
    """
    jobs = plan(files, output, recursive, (".ecdc",), f".{file_format or 'wav'}")
    _check_stdout(jobs, as_json)
    from audiogen_cli.formats.ecdc import read_header
    from audiogen_cli.pipelines import compress as pipeline

    models = _Models(model, device)

    def run(job: Job, source: Path | IO[bytes], sink: IO[bytes]) -> Generator[Progress, None, Summary]:
        kind = _format_of(job.target, file_format)
        with _opened(source) as file:
            header = read_header(file)
            codec, entropy = models.of(header)
            return (yield from pipeline.decompress(header, file, sink, codec.codec, entropy, restore, bit_depth, kind))

    _carry_out(jobs, run, as_json, force)


class _Models:
    """The codecs and entropy models that the files of one command need."""

    def __init__(self, name: str | None, device: options.Device) -> None:
        self._name, self._device = name, device
        self._codecs: dict[str, NamedCodec] = {}
        self._entropy: dict[str, EntropyModel] = {}

    def of(self, header: Header) -> tuple[NamedCodec, EntropyModel | None]:
        from audiogen_cli.hub import codecs
        from audiogen_cli.pipelines.compress import check_codec

        name = self._name or header.model
        if name not in self._codecs:
            if self._name is None and not codecs.can_be_found(name):
                raise ModelError(f"it was compressed with the codec '{name}'; name its folder or file with --model.")
            self._codecs[name] = _loaded(name, self._device)
        codec = self._codecs[name]
        check_codec(header, codec)
        if header.lm and name not in self._entropy:
            self._entropy[name] = _entropy_model(codec)
        return codec, self._entropy[name] if header.lm else None


def _loaded(model: str, device: options.Device) -> NamedCodec:
    from audiogen_cli.hub import catalog, codecs

    with console.fetching() as listener, console.waiting("loading the codec"):
        return codecs.load(model, catalog.resolve_device(device), listener)


def _wants_entropy_model(codec: NamedCodec, asked: bool | None) -> bool:
    from audiogen_cli.hub import codecs

    return asked if asked is not None else codecs.has_entropy_lm(codec) and not codec.is_published


def _entropy_model(codec: NamedCodec) -> EntropyModel:
    from audiogen_cli.hub import codecs
    from audiogen_cli.pipelines import entropy

    lm = codecs.load_entropy_lm(codec)
    return entropy.as_published(lm) if codec.is_published else entropy.exact(lm)


def _check_stdout(jobs: Sequence[Job], as_json: bool) -> None:
    if all(job.target is not None for job in jobs):
        return
    if len(jobs) > 1:
        raise OutputError("stdout takes one file; name a folder with -o instead.")
    if as_json:
        raise InputError("--json and the file cannot share stdout; name a file with -o.")
    if typer.get_binary_stream("stdout").isatty():
        raise InputError("a terminal cannot show these bytes; send them on with |, or name a file with -o.")


Run = Callable[[Job, Path | IO[bytes], IO[bytes]], "Generator[Progress, None, Summary]"]


def _carry_out(jobs: Sequence[Job], run: Run, as_json: bool, force: bool) -> None:
    """Does one job after the other; with many, a failure is told and the rest goes on. Exits as the first failure."""
    done, failures = list[Done](), list[int]()
    for job in jobs:
        try:
            done.append(_done(job, run, force))
        except Exception as error:
            if len(jobs) == 1:
                raise _named(job, error) from error
            failures.append(_told(_named(job, error)))
        else:
            _report(job, done[-1], as_json)
    if done:
        _table(done)
    if failures:
        console.say(f"{len(failures)} of {len(jobs)} files failed.")
        raise typer.Exit(failures[0])


def _done(job: Job, run: Run, force: bool) -> Done:
    if job.problem is not None:
        raise job.problem
    watch = console.Stopwatch()
    with _source(job) as source, _sink(job, force) as sink:
        summary = _watched(run(job, source, sink), job.name, watch)
        sizes = {source.stat().st_size if isinstance(source, Path) else source.seek(0, 2), sink.tell()}
    [sound_size] = sizes - {summary.size} or sizes
    return Done(job.name, summary, sound_size, watch.seconds)


@contextmanager
def _source(job: Job) -> Iterator[Path | IO[bytes]]:
    """A file; stdin as one that can be searched."""
    if job.source is not None:
        yield job.source
        return
    with tempfile.TemporaryFile() as kept:
        shutil.copyfileobj(typer.get_binary_stream("stdin"), kept)
        kept.seek(0)
        yield kept


@contextmanager
def _sink(job: Job, force: bool) -> Iterator[IO[bytes]]:
    """A file that appears when it is complete; stdout gets nothing before that either."""
    from audiogen_cli.data.files import output_error, replacing

    if job.target is None:
        with tempfile.TemporaryFile() as kept:
            yield kept
            kept.seek(0)
            shutil.copyfileobj(kept, typer.get_binary_stream("stdout"))
        return
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(job.target, error) from error
    with replacing(job.target, force) as file:
        yield file


def _watched(steps: Generator[Progress, None, Summary], name: str, watch: console.Stopwatch) -> Summary:
    """Runs a pipeline to its end behind a progress bar."""
    try:
        step = next(steps)
        with console.progress(name, step.total) as show:
            while True:
                show(step.seconds, watch.pace(step.seconds))
                step = next(steps)
    except StopIteration as stop:
        summary: Summary = stop.value
        return summary


def _named(job: Job, error: Exception) -> Exception:
    """The same error, saying which file it is about."""
    if not isinstance(error, AudiolmError) or job.name in str(error):
        return error
    return type(error)(f"{job.name}: {error}")


def _told(error: Exception) -> int:
    from audiogen_cli.cli.main import report

    return report(error)


def _report(job: Job, done: Done, as_json: bool) -> None:
    if as_json:
        console.result_json({"path": str(job.target)} | _figures(done))
    elif job.target is not None:
        console.result(str(job.target))


def _figures(done: Done) -> dict[str, Any]:
    """bytes and kbps: of the .ecdc file; ratio: how many times smaller than the sound file it is."""
    seconds = done.summary.seconds
    return {
        "source": done.name,
        "seconds": round(seconds, 3),
        "bytes": done.summary.size,
        "kbps": round(done.summary.kbps, 3),
        "ratio": round(done.sound_size / done.summary.size, 2),
        "times_real_time": round(seconds / max(done.elapsed, 1e-9), 2),
    }


def _table(done: Sequence[Done]) -> None:
    rows = [tuple(str(value) for value in _figures(each).values()) for each in done[:_SHOWN]]
    if len(done) > 1:
        rows.append(tuple(str(value) for value in _figures(_total(done)).values()))
    console.table(("file", "seconds", "bytes", "kbps", "ratio", "times real time"), rows, remark=True)


def _total(done: Sequence[Done]) -> Done:
    seconds, size = sum(each.summary.seconds for each in done), sum(each.summary.size for each in done)
    summary = done[0].summary._replace(seconds=seconds, size=size)
    sound_size, elapsed = sum(each.sound_size for each in done), sum(each.elapsed for each in done)
    return Done(f"{len(done)} files", summary, sound_size, elapsed)


def _opened(source: Path | IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    if not isinstance(source, Path):
        return nullcontext(source)
    try:
        return open(source, "rb")
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror or error}; check the path.") from error


def _format_of(target: Path | None, wanted: Literal["wav", "flac"] | None) -> Literal["wav", "flac"]:
    """By the name, unless --format says it."""
    known: dict[str, Literal["wav", "flac"]] = {".wav": "wav", ".flac": "flac"}
    named = known.get(target.suffix.lower()) if target is not None else wanted or "wav"
    if named is None and wanted is None:
        raise OutputError(f"cannot tell the format of {target}; let the name end in .wav or .flac, or give --format.")
    if named is not None and wanted is not None and named != wanted:
        raise OutputError(f"{target} is named as {named}, but --format says {wanted}; change one of them.")
    return wanted or named or "wav"
