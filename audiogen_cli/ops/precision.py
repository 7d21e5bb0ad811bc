"""What a machine multiplies fastest."""

from __future__ import annotations

import torch


def quick_dtype(device: torch.device | str) -> torch.dtype:
    """bfloat16 where the hardware multiplies it faster than float32 (CUDA, AMX, AVX-512 BF16), else float32."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if kind == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()):
        return torch.bfloat16
    return torch.float32
