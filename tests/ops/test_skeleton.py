"""A module without values has every name and shape, and costs neither memory nor torch's compiler."""

from __future__ import annotations

import subprocess
import sys

import torch

from audiogen_cli.models.lm import LM, LMConfig
from audiogen_cli.ops.skeleton import skeleton

CONFIG = LMConfig(num_codebooks=2, codebook_size=8, dim=16, num_layers=1, num_heads=2)


def test_it_has_the_names_and_shapes_of_the_module_and_no_values() -> None:
    empty, real = skeleton(lambda: LM(CONFIG)).state_dict(), LM(CONFIG).state_dict()
    assert {name: t.shape for name, t in empty.items()} == {name: t.shape for name, t in real.items()}
    assert all(tensor.is_meta for tensor in empty.values())


def test_modules_made_later_draw_their_values_again() -> None:
    skeleton(lambda: LM(CONFIG))
    assert torch.nn.Embedding(4, 4).weight.std() > 0


def test_loading_a_model_imports_neither_the_compiler_nor_transformers(tiny_model: object) -> None:
    """Each of them takes more than a second."""
    program = f"""
import sys
from audiogen_cli.hub import catalog
catalog.load({str(tiny_model)!r})
print(*[name for name in ("torch._dynamo", "transformers", "sympy", "torch.distributed.fsdp") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "\n"
