"""Commands that make one file of each of many: which they are, and where the new ones go.

a.wav                     beside it, or the file -o
a.wav b.wav -o folder     folder/a.new, folder/b.new
sounds -r -o folder       folder, with the same tree as sounds
-                         from stdin to stdout, or the file -o
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from audiogen_cli.errors import AudiolmError, InputError, OutputError

STDIO = "-"


class Job(NamedTuple):
    """source, target: None is stdin, stdout. problem: why it cannot be done, before anything is read."""

    source: Path | None
    target: Path | None
    problem: AudiolmError | None = None

    @property
    def name(self) -> str:
        return str(self.source or "stdin")


def plan(
    inputs: Sequence[str], output: str | None, recursive: bool, suffixes: Sequence[str], new_suffix: str
) -> list[Job]:
    """A job for each input and for each file in a folder whose name ends in one of `suffixes`.

    Raises InputError or OutputError when `output` cannot take what there is.
    """
    if inputs.count(STDIO) > 1:
        raise InputError("stdin can be read once; name - once.")
    many = len(inputs) > 1 or Path(inputs[0]).is_dir()
    if output == STDIO and many:
        raise OutputError("stdout takes one file; name a folder with -o instead.")
    if many and output is not None and Path(output).is_file():
        raise OutputError(f"many files do not go into the one file {output}; name a folder with -o.")
    folder = output is not None and output != STDIO and (many or output.endswith("/") or Path(output).is_dir())
    taken: set[Path | None] = set()
    jobs = []
    for source, inside, problem in _found(inputs, recursive, suffixes):
        target = _target(source, inside, output, folder, new_suffix)
        if problem is None and target in taken:
            problem = OutputError(f"{source} would be written to {target}, as another file is; rename one of them.")
        taken.add(target)
        jobs.append(Job(source, target, problem))
    return jobs


def _found(
    inputs: Sequence[str], recursive: bool, suffixes: Sequence[str]
) -> Iterator[tuple[Path | None, Path, AudiolmError | None]]:
    """Each file, its place inside the folder that was named, and what is wrong with it."""
    for given in inputs:
        path = Path(given)
        if given == STDIO:
            yield None, Path("stdin"), None
        elif not path.is_dir():
            yield path, Path(path.name), None
        elif not recursive:
            yield path, Path(path.name), InputError(f"{path} is a folder; add -r to take all that is in it.")
        else:
            files = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in suffixes and file.is_file()]
            for file in files:
                yield file, file.relative_to(path), None
            if not files:
                kinds = ", ".join(suffixes)
                yield (
                    path,
                    Path(path.name),
                    InputError(f"{path} holds no file that ends in {kinds}; name another folder."),
                )


def _target(source: Path | None, inside: Path, output: str | None, folder: bool, new_suffix: str) -> Path | None:
    if output == STDIO:
        return None
    if folder:
        return Path(str(output)) / inside.with_suffix(new_suffix)
    if output is not None:
        return Path(output)
    return source.with_suffix(new_suffix) if source is not None else None
