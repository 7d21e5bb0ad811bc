"""The recordings that the bundled language model learns from: sounds, and a little speech under one caption.

    python weights/build/lm_data.py PREPARED OUT      PREPARED: what `audiolm prepare` made of the bundled model's data

Transcripts are no captions of sounds. Of the speech, every twelfth clip stays, as "a woman speaking".
"""

import argparse
from dataclasses import replace
from pathlib import Path

from audiogen_cli.data import manifest

SPEECH = "fetch:rhasspy/dataset-voice-kathleen"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    clips = manifest.read(arguments.prepared / manifest.NAME)
    speech = [clip for clip in clips if clip.source == SPEECH]
    sounds = [clip for clip in clips if "/speech/" not in clip.path]
    sounds += [replace(clip, caption="a woman speaking", other_captions=()) for clip in speech[::12]]
    arguments.out.mkdir(parents=True, exist_ok=True)
    manifest.write(arguments.out / manifest.NAME, sounds, force=True)


if __name__ == "__main__":
    main()
