"""Gives a spectral or a mel codec without texture a head for it, so that training can go on with one.

    python weights/build/add_texture.py CODEC OUT

The codes, their fingerprint and the magnitudes stay as they are; every spread starts at half of noise's.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from audiogen_cli.hub import checkpoint
from audiogen_cli.models.mel import MelCodec
from audiogen_cli.models.spectral import SpectralCodec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codec", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    old: Any = checkpoint.load(arguments.codec, expect=("spectral", "mel"))
    if isinstance(old, MelCodec):
        new: Any = MelCodec(replace(old.config, texture=True))
    else:
        new = SpectralCodec(replace(old.config, texture="noise"))
    state = old.state_dict()
    for name, value in (("decoder.head.weight", 0.0), ("decoder.head.bias", math.log(0.5))):
        levels = state[name]
        state[name] = torch.cat([levels, torch.full_like(levels, value)])
    new.load_state_dict(state)
    assert new.fingerprint() == old.fingerprint()
    source = checkpoint.read_header(arguments.codec)["source"]
    checkpoint.save(arguments.out, new, source, torch.float16)


if __name__ == "__main__":
    main()
