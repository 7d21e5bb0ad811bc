import pytest
import torch

from audiogen_cli.ops.precision import quick_dtype


@pytest.mark.parametrize(("amx", "avx", "dtype"), [(1, 0, "bfloat16"), (0, 1, "bfloat16"), (0, 0, "float32")])
def test_a_processor_without_bfloat16_multiplies_float32(
    amx: int, avx: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: bool(amx))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bool(avx))
    assert quick_dtype("cpu") == getattr(torch, dtype)


def test_other_devices_are_not_asked_for_what_they_lack() -> None:
    assert quick_dtype("mps") == torch.float32
