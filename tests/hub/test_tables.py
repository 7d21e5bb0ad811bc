"""Tables of key names, and reading tensors without holding them twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from audiogen_cli.errors import CheckpointError
from audiogen_cli.hub.tables import Beside, Pickled, Safetensors, fill, renamed, unpickle

TABLE = ((r"^junk\.", None), (r"^old\.", ""), (r"\.q$", ".weight#0"), (r"\.k$", ".weight#1"))
STATE = {
    "old.0.q": torch.ones(2, 3),
    "old.0.k": torch.zeros(2, 3),
    "old.0.bias": torch.arange(4.0),
    "junk.x": torch.ones(1),
}


def module() -> nn.Sequential:
    with torch.device("meta"):
        return nn.Sequential(nn.Linear(3, 4))


@pytest.fixture(params=["pickled", "safetensors"])
def stored(request: pytest.FixtureRequest, tmp_path: Path):
    def store(state: dict[str, torch.Tensor]):
        if request.param == "pickled":
            torch.save({"state": state}, tmp_path / "x.bin")
            return Pickled(tmp_path / "x.bin", "state")
        save_file(state, tmp_path / "x.safetensors")
        return Safetensors(tmp_path / "x.safetensors")

    return store


def test_names_are_renamed_joined_and_dropped(stored) -> None:
    assert renamed("junk.x", TABLE) is None and renamed("old.1.k", TABLE) == "1.weight#1"
    filled = fill(module(), stored(STATE), TABLE)
    assert torch.equal(filled[0].weight, torch.cat([STATE["old.0.q"], STATE["old.0.k"]]))
    assert torch.equal(filled[0].bias, STATE["old.0.bias"]) and not filled.training


def test_numbers_are_kept_or_converted(stored) -> None:
    half = {name: tensor.half() for name, tensor in STATE.items()}
    assert fill(module(), stored(half), TABLE)[0].bias.dtype == torch.float16
    assert fill(module(), stored(half), TABLE, torch.float32)[0].weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"old.1.q": torch.ones(1)}, r"unexpected tensor 'old\.1\.q'"),
        ({"old.0.bias": torch.ones(5)}, r"'old\.0\.bias' has shape \[5\], its configuration makes \[4\]"),
        ({"old.0.k": torch.zeros(2, 4)}, r"'old\.0\.q' has shape \[2, 3\] \+ \[2, 4\]"),
        ({"old.0.bias": None}, r"no tensor '0\.bias'"),
    ],
)
def test_what_does_not_fit_is_named(stored, change: dict, reason: str) -> None:
    state = {name: tensor for name, tensor in (STATE | change).items() if tensor is not None}
    with pytest.raises(CheckpointError, match=reason):
        fill(module(), stored(state), TABLE)


def test_a_second_source_stands_under_its_prefix(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "one")
    save_file({"a": torch.zeros(3)}, tmp_path / "two")
    both = Beside(Safetensors(tmp_path / "one"), Safetensors(tmp_path / "two"), "part.")
    assert both.shapes() == {"a": [2], "part.a": [3]}
    assert [len(tensor) for tensor in both.read(["part.a", "a"])] == [3, 2]


def test_a_prefix_selects_a_part(tmp_path: Path) -> None:
    save_file({"a.x": torch.ones(1), "b.x": torch.zeros(1)}, tmp_path / "x.safetensors")
    part = Safetensors(tmp_path / "x.safetensors", "b.")
    assert part.shapes() == {"x": [1]} and part.read(["x"])[0].item() == 0


MEASURE = """
import pathlib, re, sys
import torch
from torch import nn
from audiogen_cli.hub.tables import Pickled, Safetensors, fill
source = Pickled(pathlib.Path(sys.argv[1])) if sys.argv[1].endswith("bin") else Safetensors(pathlib.Path(sys.argv[1]))
with torch.device("meta"):
    module = nn.ModuleList(nn.Linear(1000, 1000, bias=False) for _ in range(64))
status = pathlib.Path("/proc/self/status")  # getrusage would begin with the peak of the process that started this one
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) * 1024
before = peak()
fill(module, source, (), torch.float32)
sum(parameter.sum() for parameter in module.parameters())
print((peak() - before) / (64 * 4e6))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["x.bin", "x.safetensors"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_loading_holds_nothing_twice(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """N bytes of parameters, read and used, add less than 1.3 N to the process's peak."""
    state = {f"{i}.weight": torch.ones(1000, 1000, dtype=dtype) for i in range(64)}
    (torch.save if name.endswith("bin") else save_file)(state, tmp_path / name)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / name)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert result.returncode == 0, result.stderr
    assert 0.9 < float(result.stdout) < 1.3


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("it-ran"),)


def test_a_pickle_that_wants_to_run_code_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[23]"""
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": RunsCode()}, "theirs.pt")
    with pytest.raises(CheckpointError, match="wants to run code"):
        unpickle(Path("theirs.pt"))
    assert not Path("it-ran").exists()
