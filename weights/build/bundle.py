"""Puts what was trained into weights/sounds-small: the codec in 16 bits, the language model and the flow in 8.

python weights/build/bundle.py weights/sounds-small --codec runs/mel3/model --lm runs/lm4/model/lm
python weights/build/bundle.py weights/sounds-small --flow runs/flow1/model/flow
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from audiogen_cli.hub import checkpoint

LICENCE = {"licence": "CC-BY-4.0"}
PARTS = {"codec": torch.float16, "lm": torch.int8, "flow": torch.int8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    for part in PARTS:
        parser.add_argument(f"--{part}", type=Path)
    arguments = parser.parse_args()
    for part, dtype in PARTS.items():
        folder = getattr(arguments, part)
        if folder is None:
            continue
        module: Any = checkpoint.load(folder)
        source = checkpoint.read_header(folder)["source"] | LICENCE
        checkpoint.save(arguments.model / part, module, source, dtype)


if __name__ == "__main__":
    main()
