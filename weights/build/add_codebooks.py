"""Gives a language model more codebooks of its codec, so that training can go on with them.

    python weights/build/add_codebooks.py LM CODEC OUT --codebooks 12

What it knows of its own codebooks stays; the tables and heads of the others begin as projections of the codec's
vectors (`LM.begin_with`), the tables at a third of the size, so that they hardly disturb what is there.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from audiogen_cli.hub import checkpoint
from audiogen_cli.models.lm import LM


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lm", type=Path)
    parser.add_argument("codec", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--codebooks", type=int, required=True)
    arguments = parser.parse_args()
    old: Any = checkpoint.load(arguments.lm, expect=("lm",))
    codec: Any = checkpoint.load(arguments.codec, expect=checkpoint.CODECS)
    assert codec.fingerprint() == old.config.codec_fingerprint
    torch.manual_seed(0)
    new = LM(replace(old.config, num_codebooks=arguments.codebooks))
    new.begin_with(codec.codebooks())
    with torch.no_grad():
        for table in new.emb[old.config.num_codebooks :]:
            table.weight.mul_(1 / 3)  # type: ignore[operator, union-attr]
    new.load_state_dict(old.state_dict(), strict=False)
    source = checkpoint.read_header(arguments.lm)["source"]
    checkpoint.save(arguments.out, new, source, torch.float16)


if __name__ == "__main__":
    main()
