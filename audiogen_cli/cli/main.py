"""The `audiolm` command: its tree, --version, --verbose, and the one boundary where an exception becomes a sentence."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import Annotated, Any

import typer
import typer.core

from audiogen_cli import __version__
from audiogen_cli.cli import codec, console, dataset, evaluate_speech, generate, info, models, speak, train_stages
from audiogen_cli.errors import AudiolmError

INTERRUPTED, BROKEN_PIPE = 130, 141
_USAGE_ERROR = typer.BadParameter.__mro__[1]  # Typer's own, whose module it keeps to itself


class Boundary(typer.core.TyperGroup):
    """The command group that turns every exception of its commands into one line on stderr and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Lets --verbose stand anywhere before a lone `--`."""
        end = args.index("--") if "--" in args else len(args)
        if "--verbose" in args[:end]:
            args = ["--verbose", *(arg for arg in args[:end] if arg != "--verbose"), *args[end:]]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            value = super().invoke(ctx)
            sys.stdout.flush()
            return value
        except (typer.Exit, typer.Abort):
            raise
        except BaseException as error:
            if ctx.params.get("verbose"):
                traceback.print_exc()
            raise typer.Exit(report(error)) from None


def report(error: BaseException) -> int:
    """Says what went wrong, in a sentence; returns the exit code."""
    if isinstance(error, KeyboardInterrupt):
        console.error("interrupted; what was finished before is kept, nothing is half-written.")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again at exit
        return BROKEN_PIPE
    if isinstance(error, AudiolmError):
        console.error(str(error))
        return error.exit_code
    if isinstance(error, _USAGE_ERROR):
        return _report_usage(error)
    if not isinstance(error, Exception):
        raise error
    console.error(_unexpected(error))
    return 1


def _report_usage(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        return 2  # Typer has printed the help
    path = error.ctx.command_path if error.ctx else "audiolm"
    console.error(f"{error.format_message().rstrip('.')}; see `{path} --help`.")
    return 2


def _unexpected(error: Exception) -> str:
    text = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return "there is not enough memory; ask for fewer seconds or fewer sounds at once, or use --device cpu."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full; free some space or write elsewhere."
    return f"unexpected {type(error).__name__}: {error}; run it again with --verbose and report what it prints."


app = typer.Typer(
    cls=Boundary,
    name="audiolm",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        console.result(f"audiolm {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and stop.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show where an error comes from.")] = False,
) -> None:
    """Make, continue and learn audio with neural codecs and language models.

    Start with:  audiolm generate "dog barking in rain"
    """


_USE, _LEARN = "Make sound", "Train your own"
app.command("generate", rich_help_panel=_USE)(generate.generate)
app.command("continue", rich_help_panel=_USE)(generate.continue_)
app.command("speak", rich_help_panel=_USE)(speak.speak)
app.command("compress", rich_help_panel=_USE)(codec.compress)
app.command("decompress", rich_help_panel=_USE)(codec.decompress)
app.command("info", rich_help_panel=_USE)(info.info)
app.add_typer(models.app, name="models", rich_help_panel=_USE)
app.command("prepare", rich_help_panel=_LEARN)(dataset.prepare)
app.add_typer(train_stages.app, name="train", rich_help_panel=_LEARN)
app.add_typer(evaluate_speech.group, name="evaluate", rich_help_panel=_LEARN)


def main() -> None:
    app(prog_name="audiolm")
