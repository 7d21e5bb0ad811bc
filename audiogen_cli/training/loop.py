"""One training loop for every model: warm-up, evaluation, atomic checkpoints, exact resumption.

A Task owns its modules and optimizers and does one step; the loop owns time. Everything random about step n follows
from (seed, n), so a resumed run continues as if it had never stopped:

    for report in train(task, LoopConfig(steps=10_000), folder, resume=True):
        ...                                        # a Report after every step, evaluation and save

    folder/recipe.json, log.jsonl, samples/        folder/checkpoints/step-00001000/training.pt
    folder/model/                                  the averaged weights as a checkpoint folder, ready to use
"""

from __future__ import annotations

import copy
import json
import math
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from audiogen_cli.errors import OutputError, TrainingError
from audiogen_cli.ops.precision import quick_dtype


@dataclass(frozen=True)
class LoopConfig:
    """accumulate: in how many parts a batch goes through the model, whose gradients are averaged. The averaged weights
    are a copy of the trained ones for `ema_start` steps, and follow them at every `ema_every`th step.

    `precision` "auto" is bf16 where the hardware multiplies it faster than float32 (CUDA, AMX, AVX-512 BF16), else
    fp32."""

    steps: int = 10_000
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 3e-4
    warmup_steps: int = 200
    schedule: Literal["cosine", "constant", "inverse_sqrt"] = "cosine"
    final_learning_rate: float = 0.1
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    ema_start: int = 0
    ema_every: int = 1
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    evaluate_every: int = 500
    save_every: int = 500
    keep_last: int = 2
    workers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        names = ("steps", "batch_size", "accumulate", "ema_every", "evaluate_every", "save_every", "keep_last")
        if min(getattr(self, name) for name in names) < 1:
            raise ValueError(f"{', '.join(names[:-1])} and {names[-1]} must be 1 or more.")


@dataclass(frozen=True)
class Report:
    """What just happened. `seconds` is the wall time of the step; metrics are plain numbers."""

    kind: Literal["step", "evaluate", "save"]
    step: int
    steps: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


class Task(Protocol):
    """A model being trained. `modules` and `optimizers` are saved and resumed by name, so are `extras`."""

    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    extras: dict[str, Any]

    def prepare(self, accelerator: Accelerator, config: LoopConfig) -> None: ...

    def batch(self, step: int) -> Any:
        """The examples of one step, on the CPU, a function of the step alone; called in a worker process."""

    def step(self, batch: Any, step: int) -> dict[str, Tensor | float]:
        """Backward passes and optimizer steps; returns what to log."""

    def evaluate(self, folder: Path, step: int) -> dict[str, float]: ...

    def export(self, folder: Path) -> None: ...


class ExponentialAverage:
    """A copy of a module whose weights trail the trained ones; buffers are copied as they are.

    start: so many steps are copied; every: the others are skipped. See LoopConfig."""

    def __init__(self, module: nn.Module, decay: float, start: int = 0, every: int = 1) -> None:
        self.decay, self.start, self.every = decay, start, every
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        if (step + 1) % self.every and step >= self.start:
            return
        age = step - self.start
        decay = min(self.decay, (1 + age) / (10 + age)) if age >= 0 else 0.0
        averages = [parameter.data for parameter in self.module.parameters()]
        torch._foreach_lerp_(averages, [parameter.data for parameter in module.parameters()], 1.0 - decay)
        for average, value in zip(self.module.buffers(), module.buffers(), strict=True):
            average.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        return self.module.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state)


def averaged(module: nn.Module, config: LoopConfig) -> ExponentialAverage:
    return ExponentialAverage(module, config.ema_decay, config.ema_start, config.ema_every)


def adamw(module: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW as language models are trained with it: betas 0.9 and 0.95, only matrices decayed."""
    groups = [
        {"params": [p for p in module.parameters() if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in module.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    for group in groups:
        group["initial_lr"] = learning_rate
    return torch.optim.AdamW(groups, learning_rate, (0.9, 0.95))


def resolve_precision(precision: str) -> Literal["no", "bf16"]:
    """Accelerate's name for the precision; "auto" asks the hardware."""
    if precision != "auto":
        return "bf16" if precision == "bf16" else "no"
    return "bf16" if quick_dtype("cuda" if torch.cuda.is_available() else "cpu") == torch.bfloat16 else "no"


def learning_rate_scale(config: LoopConfig, step: int) -> float:
    """The factor on the learning rate at a step counted from 0."""
    warm = (step + 1) / max(1, config.warmup_steps)
    if warm < 1.0:
        return warm
    if config.schedule == "inverse_sqrt":
        return math.sqrt(max(1, config.warmup_steps) / (step + 1))
    if config.schedule == "cosine":
        progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
        low = config.final_learning_rate
        return low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    return 1.0


def new_accelerator(precision: str, **options: Any) -> Accelerator:
    """Raises TrainingError in one of several processes: they would write over each other's files."""
    AcceleratorState._reset_state()  # or the first run's precision would bind every later one of this process
    made = Accelerator(**{"mixed_precision": resolve_precision(precision), **options})
    if made.num_processes > 1:
        raise TrainingError("training runs in one process; start it without a launcher.")
    return made


def train(
    task: Task,
    config: LoopConfig,
    folder: Path,
    recipe: Mapping[str, Any],
    resume: bool = False,
    accelerator: Accelerator | None = None,
) -> Iterator[Report]:
    """Runs the task to `config.steps`. Raises OutputError for a folder in use, TrainingError for a loss not finite.

    accelerator: the caller's, whose precision counts then."""
    _open(folder, recipe, resume)
    accelerator = accelerator or new_accelerator(config.precision)
    torch.manual_seed(config.seed)
    task.prepare(accelerator, config)
    for module in task.modules.values():
        module.train()  # a checkpoint to begin with comes as for use: codebooks and dropout would stand still
    first = _restore(task, folder) if resume else 0
    _trim_log(folder / "log.jsonl", first)
    began = time.monotonic()
    for step, batch in enumerate(_batches(task, config, first), start=first):
        metrics = _one_step(task, config, batch, step)
        yield _log(folder, Report("step", step + 1, config.steps, metrics, time.monotonic() - began))
        last = step + 1 == config.steps
        if last or (step + 1) % config.evaluate_every == 0:
            yield _log(folder, _evaluate(task, config, folder, step + 1))
        if last or (step + 1) % config.save_every == 0:
            _save(task, config, folder, step + 1)
            yield Report("save", step + 1, config.steps)
        began = time.monotonic()


class _Steps(Dataset[Any]):
    """The batches of a task by step."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __getitem__(self, step: int) -> Any:
        return self.task.batch(step)


def _batches(task: Task, config: LoopConfig, first: int) -> DataLoader[Any]:
    """One batch a step, made ahead by a process of its own where processes can be forked."""
    workers = config.workers if "fork" in multiprocessing.get_all_start_methods() else 0
    return DataLoader(
        _Steps(task),
        batch_size=None,
        sampler=range(first, config.steps),
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
        generator=torch.Generator(),
    )


def _one_step(task: Task, config: LoopConfig, batch: Any, step: int) -> dict[str, float]:
    torch.manual_seed(config.seed * 1_000_003 + step)  # dropout, dead codes: the same after a resumption
    scale = learning_rate_scale(config, step)
    for optimizer in task.optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * scale
    metrics = {name: float(value) for name, value in task.step(batch, step).items()}
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"the {name} became {value} at step {step + 1}; the last checkpoint is kept. "
                "Resume with a lower learning rate."
            )
    return metrics


def _evaluate(task: Task, config: LoopConfig, folder: Path, step: int) -> Report:
    began = time.monotonic()
    samples = folder / "samples" / f"step-{step:08d}"
    samples.mkdir(parents=True, exist_ok=True)
    state = torch.get_rng_state()
    metrics = task.evaluate(samples, step)
    torch.set_rng_state(state)
    return Report("evaluate", step, config.steps, metrics, time.monotonic() - began)


def _open(folder: Path, recipe: Mapping[str, Any], resume: bool) -> None:
    if (folder / "checkpoints").exists() and not resume:
        raise OutputError(f"{folder} already holds a training run; add --resume to go on, or choose another folder.")
    try:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        (folder / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}; choose another folder.") from error


def checkpoints(folder: Path) -> list[Path]:
    """The finished checkpoints of a run, oldest first."""
    return sorted(path for path in (folder / "checkpoints").glob("step-*") if path.suffix != ".partial")


def _save(task: Task, config: LoopConfig, folder: Path, step: int) -> None:
    target = folder / "checkpoints" / f"step-{step:08d}"
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    state = {
        "step": step,
        "modules": {name: module.state_dict() for name, module in task.modules.items()},
        "optimizers": {name: optimizer.state_dict() for name, optimizer in task.optimizers.items()},
        "extras": {name: extra.state_dict() for name, extra in task.extras.items()},
    }
    torch.save(state, partial / "training.pt")
    shutil.rmtree(target, ignore_errors=True)
    os.replace(partial, target)
    task.export(folder / "model")
    for stale in checkpoints(folder)[: -config.keep_last]:
        shutil.rmtree(stale)


def _restore(task: Task, folder: Path) -> int:
    found = checkpoints(folder)
    if not found:
        return 0
    state = torch.load(found[-1] / "training.pt", map_location="cpu", weights_only=True)
    rates = {name: [g["initial_lr"] for g in o.param_groups] for name, o in task.optimizers.items()}
    for kind, owners in (("modules", task.modules), ("optimizers", task.optimizers), ("extras", task.extras)):
        for name, owner in owners.items():
            owner.load_state_dict(state[kind][name])
    for name, optimizer in task.optimizers.items():  # the recipe's rates, which may have changed, not the stored ones
        for group, rate in zip(optimizer.param_groups, rates[name], strict=True):
            group["initial_lr"] = rate
    return int(state["step"])


def _log(folder: Path, report: Report) -> Report:
    line = {"kind": report.kind, "step": report.step, "seconds": round(report.seconds, 3), **report.metrics}
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")
    return report


def _trim_log(log: Path, step: int) -> None:
    """Drops the lines of steps that will be done again."""
    if log.exists():
        lines = [line for line in log.read_text(encoding="utf-8").splitlines() if json.loads(line)["step"] <= step]
        log.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
