"""A file is written whole or not at all: beside its place first, then moved there in one step."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from audiogen_cli.errors import OutputError

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or write elsewhere",
    errno.EDQUOT: "the disk quota is used up; free some space or write elsewhere",
    errno.EACCES: "permission denied; choose a folder that you may write to",
    errno.EPERM: "permission denied; choose a folder that you may write to",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.EFBIG: "the file grew too large for this file system; write elsewhere",
}


def check_output(path: str | os.PathLike[str], force: bool = False) -> Path:
    """The place that `path` names, links followed; cheap enough to ask before a long computation.

    Raises OutputError when the folder is missing or may not be written to, when `path` is a folder or a device, or when
    it exists and `force` is not given.
    """
    try:
        return _check(Path(os.path.realpath(path)), Path(path), force)
    except (OSError, ValueError) as error:  # a name too long, a NUL byte, a folder that may not be entered
        raise output_error(path, error) from error


def _check(target: Path, path: Path, force: bool) -> Path:
    if target.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; add a file name.")
    if target.exists() and not target.is_file():
        raise OutputError(f"cannot write {path}: it is a device or pipe; name an ordinary file.")
    if target.exists() and not force:
        raise OutputError(f"{path} exists already; choose another name or overwrite it with --force.")
    if not target.parent.exists():
        raise OutputError(f"cannot write {path}: the folder {Path(path).parent} does not exist; create it first.")
    if not target.parent.is_dir():
        raise OutputError(f"cannot write {path}: {Path(path).parent} is not a folder; choose another place.")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise output_error(path, PermissionError(errno.EACCES, ""))
    return target


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], force: bool = False) -> Iterator[IO[bytes]]:
    """A binary file to write to, which becomes `path` when the block ends well and vanishes when it does not.

    Raises OutputError as `check_output` does, and when the disk refuses.
    """
    target = check_output(path, force)
    beside = target.with_name(f".audiolm-{secrets.token_hex(6)}.part")
    try:
        with open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except OSError as error:
        raise output_error(path, error) from error
    finally:  # also at Ctrl-C; after a success there is nothing left to remove
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def output_error(path: str | os.PathLike[str], error: Exception) -> OutputError:
    """What the system said, as a sentence."""
    code = error.errno if isinstance(error, OSError) else None
    reason = _REASONS.get(code or 0) or f"{getattr(error, 'strerror', None) or error}; choose another place"
    return OutputError(f"cannot write {path}: {reason}.")
