"""What loading costs: peak memory and seconds to the first token, for random weights of musicgen-small's true shape.

    python tests/benchmarks/musicgen_small.py FOLDER     # FOLDER takes about 7 GB and is kept for the next run

The checkpoint is written as the Hub's cache holds the published one: 300 tensors, 420,371,456 parameters in 16 bits,
a codec of 236 MB, and T5-base, here without its decoder, which is never read. It is loaded under its name, each time in
a new process, then from what `audiolm models convert` makes of it, in 16 bits and in float32. One line of JSON per
layout: `growth` is the growth of the process's peak from before the loading until after the first token, as a multiple
of the bytes of the loaded weights; times count from the start of the loading, imports not included. Linux only.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

from audiogen_cli.conditioners.t5 import T5Config, T5Encoder
from audiogen_cli.conditioners.text import T5Conditioner
from audiogen_cli.hub import catalog
from audiogen_cli.models.decoding import Sampling, decode
from audiogen_cli.models.encodec import Encodec, EncodecConfig
from audiogen_cli.models.lm import LM, LMConfig
from audiogen_cli.ops.skeleton import skeleton

REPO = "facebook/musicgen-small"
PROMPT = "slow jazz with a piano"
LM_CONFIG = LMConfig(num_codebooks=4, codebook_size=2048, dim=1024, num_layers=24, num_heads=16)
TEXT_CONFIG = T5Config(vocab_size=32128, d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12)
CODEC_CONFIG = EncodecConfig(
    sample_rate=32_000,
    num_filters=64,
    ratios=(8, 5, 4, 4),
    causal=False,
    true_skip=True,
    num_codebooks=4,
    codebook_size=2048,
    pad_mode="constant",
)
LM_SETTINGS = {
    "lm_model": "transformer_lm",
    "sample_rate": 32_000,
    "channels": 1,
    "dataset": {"segment_duration": 30},
    "transformer_lm": {"dim": 1024, "num_heads": 16, "num_layers": 24, "hidden_scale": 4, "n_q": 4, "card": 2048},
    "codebooks_pattern": {"modeling": "delay", "delay": {"delays": [0, 1, 2, 3]}},
    "classifier_free_guidance": {"inference_coef": 3.0},
    "fuser": {"cross": ["description"], "prepend": [], "sum": [], "input_interpolate": []},
    "conditioners": {"description": {"model": "t5", "t5": {"name": "t5-base"}}},
}
CODEC_SETTINGS = {
    "compression_model": "encodec",
    "sample_rate": 32_000,
    "encodec": {"autoencoder": "seanet", "quantizer": "rvq", "renormalize": False},
    "seanet": {
        "channels": 1,
        "dimension": 128,
        "n_filters": 64,
        "ratios": [8, 5, 4, 4],
        "n_residual_layers": 1,
        "kernel_size": 7,
        "last_kernel_size": 7,
        "residual_kernel_size": 3,
        "dilation_base": 2,
        "compress": 2,
        "true_skip": True,
        "lstm": 2,
        "causal": False,
        "norm": "weight_norm",
        "pad_mode": "constant",
    },
    "rvq": {"n_q": 4, "bins": 2048},
}
# Ours -> AudioCraft's, in order.
LM_NAMES = {
    "condition_proj.": "condition_provider.conditioners.description.output_proj.",
    "heads.": "linears.",
    ".self_attention.": ".self_attn.",
    ".in_proj.": ".in_proj_",
}
NORM_NAMES = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


def main(folder: Path) -> None:
    if not (folder / "cache").is_dir():
        write_cache(folder / "partial")
        (folder / "partial").rename(folder / "cache")
    environment = os.environ | {"HF_HUB_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    layouts = {REPO: None, "converted": "auto", "converted-float32": "float32"}
    for name, dtype in layouts.items():
        place = REPO if dtype is None else str(folder / name)
        if dtype is not None and not Path(place).is_dir():
            command = [sys.executable, "-m", "audiogen_cli", "models", "convert", REPO, place, "--dtype", dtype]
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        found = subprocess.run(
            [sys.executable, __file__, "--measure", place], env=environment, check=True, capture_output=True, text=True
        )
        sys.stdout.write(json.dumps({"layout": name} | json.loads(found.stdout)) + "\n")
        sys.stdout.flush()


def measure(place: str) -> dict[str, float]:
    """In this process, whose imports are done."""
    from audiogen_cli.hub import foreign  # noqa: F401 - loading would import it

    before, start, cpu = peak(), time.monotonic(), time.process_time()
    model = catalog.load(place)
    loaded = time.monotonic() - start
    steps = decode(model.lm, model.text([PROMPT]), 5, [0], Sampling())
    next(steps)
    first = time.monotonic() - start
    weights = sum(
        tensor.nbytes
        for part in (model.lm, model.codec, model.text.encoder)
        for tensor in (*part.parameters(), *part.buffers())
    )
    return {
        "weights_mb": round(weights / 1e6),
        "peak_mb": round(peak() / 1e6),
        "growth": round((peak() - before) / weights, 3),
        "load_seconds": round(loaded, 2),
        "first_token_seconds": round(first, 2),
        "first_token_cpu_seconds": round(time.process_time() - cpu, 2),
    }


def peak() -> int:
    """Bytes, mapped files included. Not getrusage, which begins with the peak of the process that started this one."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def write_cache(cache: Path) -> None:
    lm = {renamed(name, LM_NAMES): t for name, t in random(skeleton(lambda: LM(LM_CONFIG)), torch.float16).items()}
    package = {"best_state": lm, "xp.cfg": yaml.safe_dump(LM_SETTINGS), "version": "1.3.0", "exported": True}
    put(cache, REPO, "state_dict.bin", package)
    codec = skeleton(lambda: Encodec(CODEC_CONFIG))
    state = {codec_name(name): tensor for name, tensor in random(codec, torch.float32).items()}
    package = {"best_state": state, "xp.cfg": yaml.safe_dump(CODEC_SETTINGS), "version": "1.3.0", "exported": True}
    put(cache, REPO, "compression_state_dict.bin", package)
    encoder = skeleton(lambda: T5Encoder(TEXT_CONFIG))
    encoder.load_state_dict(random(encoder, torch.float32), assign=True)
    T5Conditioner(encoder, tokenizer()).save(cache / "models--google-t5--t5-base" / "snapshots" / "main")


def put(cache: Path, repo: str, name: str, package: Mapping[str, object]) -> None:
    """A blob named by its sha256 and the snapshot's link to it."""
    home = cache / f"models--{repo.replace('/', '--')}"
    blobs, snapshot = home / "blobs", home / "snapshots" / "main"
    for folder in (blobs, snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    torch.save(package, blobs / name)
    with open(blobs / name, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    (blobs / name).rename(blobs / digest)
    (snapshot / name).symlink_to(f"../../blobs/{digest}")


def random(module: torch.nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """Values for every tensor of a skeleton, all from the start of one noise: only their number matters here."""
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(max(shape.numel() for shape in shapes.values()), generator=generator).mul_(0.02).to(dtype)
    return {name: noise[: shape.numel()].view(shape).clone() for name, shape in shapes.items()}


def renamed(name: str, names: Mapping[str, str]) -> str:
    for ours, theirs in names.items():
        name = name.replace(ours, theirs)
    return name


def codec_name(name: str) -> str:
    """encoder.3.conv.bias -> encoder.model.3.conv.conv.bias, and the decoder's transposed ones convtr.convtr."""
    name = renamed(name, NORM_NAMES)
    side, number, rest = name.split(".", 2)
    if side == "quantizer":
        stage, rest = rest.split(".", 1)
        return f"quantizer.vq.layers.{stage}._codebook.{rest}"
    kind = "convtr" if side == "decoder" and number in ("3", "6", "9", "12") else "conv"
    return f"{side}.model.{number}.{rest}".replace(".conv.", f".{kind}.{kind}.")


def tokenizer() -> Tokenizer:
    words = ["<pad>", "</s>", "<unk>", *PROMPT.split()]
    found = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    found.pre_tokenizer = pre_tokenizers.Whitespace()
    found.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return found


if __name__ == "__main__":
    if sys.argv[1] == "--measure":
        sys.stdout.write(json.dumps(measure(sys.argv[2])))
    else:
        main(Path(sys.argv[1]))
