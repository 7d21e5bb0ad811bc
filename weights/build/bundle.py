"""Puts what was trained into weights/sounds-small: the codec in 16 bits, the language model in 8.

python weights/build/bundle.py runs/mel3/model runs/lm4/model/lm weights/sounds-small
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from audiogen_cli.hub import checkpoint

LICENCE = {"licence": "CC-BY-4.0"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codec", type=Path)
    parser.add_argument("lm", type=Path)
    parser.add_argument("model", type=Path)
    arguments = parser.parse_args()
    for part, folder, dtype in (("codec", arguments.codec, torch.float16), ("lm", arguments.lm, torch.int8)):
        module: Any = checkpoint.load(folder)
        source = checkpoint.read_header(folder)["source"] | LICENCE
        checkpoint.save(arguments.model / part, module, source, dtype)


if __name__ == "__main__":
    main()
