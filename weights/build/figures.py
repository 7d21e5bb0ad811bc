# ruff: noqa: T201  (a script that reports to whoever runs it)
"""Every figure of the model card in one run, beside what they were: how well the bundled model answers words and how
clean, varied and lifelike its sounds are, how near both codecs' rivals come, how large and how fast it is.

    python weights/build/figures.py SOUNDS SPEECH OUT [--lyra LYRA] [--before weights/build/figures.json]
                                    [--seeds 4] [--clips 500]

SOUNDS, SPEECH: of `audiolm prepare`; of SPEECH the phrases of Asterisk's speaker are used. LYRA: the tflite files of
Lyra V2. OUT gets the reports, the spectrogram sheets and figures.json. The table goes to stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from audiogen_cli.hub import catalog
from audiogen_cli.hub.shelf import SHELVES
from audiogen_cli.models.decoding import finish
from audiogen_cli.pipelines.generate import generate

BUNDLED = ("sounds-small", "codec-small", "hifigan")
RATES = (1.723, 6.03)  # kbps of codec-small: eight and all of its 28 codes
ROUNDS = 3


class Figure(NamedTuple):
    """goal: None where none is named. form: how numbers are written."""

    name: str
    goal: str | None
    form: str
    value: float | None


def of_model(report: dict[str, Any]) -> Iterator[Figure]:
    mean, heard = report["mean"], [row for row in report["rows"] if row["clips"]]
    yield Figure("recognised: generated", None, ".2f", mean["generated"])
    yield Figure("recognised: held-out recordings", None, ".2f", mean["placed"])
    yield Figure("generated, of held-out recordings", "80 %", ".0%", ratio(heard, "generated", "placed"))
    yield Figure("generated, against other prompts' classes", None, ".3f", mean["control"])
    pairs = report["pairs"]["rows"]
    yield Figure("both of two sounds", None, ".2f", report["pairs"]["mean"]["generated"])
    mixed = [row for row in pairs if row["mixed"] is not None]
    yield Figure("both of two sounds, of real mixtures", "50 %", ".0%", ratio(mixed, "generated", "mixed"))
    yield Figure("unseen words, of their plain prompts", "70 %", ".0%", report["paraphrases"]["unseen"]["relative"])
    made, real = report["cleanliness"][:2]
    for key in ("clicking", "humming", "silent", "clipped"):
        yield Figure(f"{key}: generated", f"recordings: {real[key]:.0%}", ".0%", made[key])
    yield Figure("loudness within that of recordings", None, ".0%", made["in_range"])
    frechet = report["likeness"]["frechet"]
    clips = frechet["sounds"]
    yield Figure(f"Fréchet distance, {clips} and {clips}", None, ".2f", frechet["generated"])
    yield Figure(f"Fréchet distance after the codec alone, {clips} and {clips}", None, ".2f", frechet["coded"])
    for key, name in (("generated", "generated"), ("coded", "after the codec alone"), ("real", "recordings")):
        yield Figure(f"Fréchet distance, halves of {clips}: {name}", None, ".2f", frechet[f"{key}_half"])
    variety = report["likeness"]["variety"]
    yield Figure("variety, of recordings", "near 100 %", ".0%", variety["generated"] / variety["real"])
    nearest = report["likeness"]["nearest"]
    yield Figure("near copies of training clips", "none", ".1%", nearest["near_copies"])
    yield Figure("distance to the nearest training clip, median", None, ".3f", nearest["generated"][2])
    yield Figure("the same of held-out recordings", None, ".3f", nearest["held_out"][2])


def of_codec(kind: str, report: dict[str, Any]) -> Iterator[Figure]:
    for row in report["rows"]:
        rate = row["kbps"] if row["coded_kbps"] is None else row["coded_kbps"]
        label = f"{kind}, {row['coder']} at {rate:.1f} kbps"
        yield Figure(f"{label}: mel distance", None, ".3f", row["scores"]["mel_distance"])
        if row["scores"].get("visqol") is not None:
            yield Figure(f"{label}: ViSQOL", None, ".2f", row["scores"]["visqol"])


def of_machine() -> Iterator[Figure]:
    shelf = next(shelf for shelf in SHELVES if (shelf / BUNDLED[0]).is_dir())
    size = sum(path.stat().st_size for name in BUNDLED for path in (shelf / name).rglob("*") if path.is_file())
    yield Figure("bundled weights, MB", "150", ".0f", size / 1e6)
    model = catalog.load()
    for prompt in ("a dog barking", "dog barking in rain"):
        finish(generate(model, [prompt], 5.0, [0]))
        yield Figure(f'5 s of "{prompt}", warm, s', "5", ".1f", statistics.median(timed(model, prompt)))


def timed(model: Any, prompt: str) -> Iterator[float]:
    for seed in range(ROUNDS):
        start = time.perf_counter()
        finish(generate(model, [prompt], 5.0, [seed]))
        yield time.perf_counter() - start


def ratio(rows: list[dict[str, Any]], above: str, below: str) -> float | None:
    whole = sum(row[below] for row in rows)
    return sum(row[above] for row in rows) / whole if whole else None


def reported(arguments: list[str], output: Path, cores: str | None = None) -> dict[str, Any]:
    """What a subcommand of `audiolm evaluate` finds, as JSON; its tables stay beside that as Markdown."""
    command = [sys.executable, "-m", "audiogen_cli", "evaluate", *arguments, "-o", str(output), "--force"]
    around = os.environ | ({"OMP_NUM_THREADS": cores} if cores else {})
    made = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=around)
    output.with_suffix(".md").write_bytes(made.stdout)
    found: dict[str, Any] = json.loads(output.read_bytes())
    return found


def written(figures: list[Figure], before: dict[str, str]) -> Iterator[str]:
    yield "| figure | goal | before | now |"
    yield "|---|--:|--:|--:|"
    for name, goal, form, value in figures:
        now = "-" if value is None else format(value, form).replace("%", " %")
        yield f"| {name} | {goal or ''} | {before.get(name, '-')} | {now} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sounds", type=Path)
    parser.add_argument("speech", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--lyra", type=Path)
    parser.add_argument("--before", type=Path, help="figures.json of an earlier run.")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--clips", type=int, default=500)
    given, start = parser.parse_args(), time.perf_counter()
    given.out.mkdir(parents=True, exist_ok=True)
    before = json.loads(given.before.read_bytes()) if given.before else {}

    figures = list(of_machine())  # first, while nothing else has warmed the machine up
    others = ["--lyra", str(given.lyra)] if given.lyra else []
    rates = [word for rate in RATES for word in ("--kbps", str(rate))]
    of_kind = {"sounds": [str(given.sounds), "--no-listen"], "speech": [str(given.speech), "--source", "asterisk"]}

    def codecs(kind: str) -> dict[str, Any]:
        command = ["codec", *of_kind[kind], "--heard-at", "16000", *rates, *others]
        return reported(command, given.out / f"{kind}.json", cores="1")

    with ThreadPoolExecutor() as pool:  # side by side, each on one core
        for kind, report in zip(of_kind, pool.map(codecs, of_kind), strict=True):
            figures += of_codec(kind, report)
    extent = ["--seeds", str(given.seeds), "--clips", str(given.clips), "--sheets", str(given.out / "sheets")]
    command = ["--data", str(given.sounds), "--tier", "A", *extent]
    figures = [*of_model(reported(command, given.out / "evaluate.json")), *figures]

    lines = list(written(figures, before))
    now = {name: line.split(" | ")[-1].removesuffix(" |") for (name, *_), line in zip(figures, lines[2:], strict=True)}
    (given.out / "figures.json").write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("\n".join(lines))
    print(f"\nMade in {(time.perf_counter() - start) / 60:.0f} minutes.")


if __name__ == "__main__":
    main()
