"""audiolm compress | decompress: recordings to .ecdc files and back, one bad file not stopping the others."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from audiogen_cli.cli import console, options
from audiogen_cli.cli.batches import STDIO, Job, plan
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
    """One file that went well. source_size: in bytes; elapsed: in seconds."""

    name: str
    summary: Summary
    source_size: int
    target_size: int
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
            help="The rate, before --lm saves some of it. (Default: 6, or the codec's most.)",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    lm: Annotated[
        bool,
        typer.Option(
            "--lm",
            help="Smaller files, slowly, by the codec's entropy model. Those of the published EnCodec models can be "
            "read on this kind of machine, with this torch and as many threads; files that cannot are told.",
            rich_help_panel=_WHAT,
        ),
    ] = False,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="Whose codec: a name, owner/name on the Hub, a folder, or a .th file of EnCodec.",
            rich_help_panel=_MACHINE,
        ),
    ] = options.MODEL,
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
    entropy = _entropy_model(codec) if lm else None

    def run(source: Path | IO[bytes], sink: IO[bytes]) -> Generator[Progress, None, Summary]:
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

    def run(source: Path | IO[bytes], sink: IO[bytes]) -> Generator[Progress, None, Summary]:
        kind = file_format or _format_of(sink.name)
        with open(source, "rb") if isinstance(source, Path) else _kept(source) as file:
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
