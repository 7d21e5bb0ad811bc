import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from audiogen_cli.errors import OutputError, TrainingError
from audiogen_cli.training import loop
from audiogen_cli.training.loop import ExponentialAverage, LoopConfig, learning_rate_scale


class Line:
    """Learns y = 3x with dropout, so that a step depends on the random state too."""

    def __init__(self, breaks_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.average = ExponentialAverage(self.model, 0.9)
        self.modules: dict[str, nn.Module] = {"model": self.model}
        self.extras: dict[str, Any] = {"average": self.average}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.breaks_at = breaks_at

    def prepare(self, accelerator: Accelerator, config: LoopConfig) -> None:
        optimizer = torch.optim.AdamW(self.model.parameters(), config.learning_rate)
        optimizer.param_groups[0]["initial_lr"] = config.learning_rate
        self.optimizers, self.accelerator = {"model": optimizer}, accelerator

    def batch(self, step: int) -> torch.Tensor:
        return torch.randn(4, 1, generator=torch.Generator().manual_seed(step))

    def step(self, batch: torch.Tensor, step: int) -> dict[str, float]:
        loss = (self.model(batch) - 3 * batch).square().mean()
        self.optimizers["model"].zero_grad()
        loss.backward()
        self.optimizers["model"].step()
        self.average.update(self.model, step)
        return {"loss": float("nan") if step == self.breaks_at else float(loss.detach())}

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        return {"weight": float(self.model[0].weight[0, 0].detach()) + 0 * float(torch.rand(()))}

    def export(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "exported").write_text("yes")


CONFIG = LoopConfig(steps=12, warmup_steps=2, learning_rate=0.01, evaluate_every=4, save_every=4, precision="fp32")


def losses(folder: Path, stop_after: int | None = None, resume: bool = False) -> list[float]:
    found = []
    for report in loop.train(Line(), CONFIG, folder, {}, resume):
        if report.kind == "step":
            found.append(report.metrics["loss"])
            if report.step == stop_after:
                break
    return found


def test_a_killed_and_resumed_run_continues_the_loss_curve_exactly(tmp_path: Path) -> None:
    whole = losses(tmp_path / "whole")
    before = losses(tmp_path / "cut", stop_after=10)  # dies two steps after the checkpoint of step 8
    after = losses(tmp_path / "cut", resume=True)
    assert before[:8] + after == whole
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut/log.jsonl").read_text().splitlines()]
    assert steps == sorted(steps) and steps.count(9) == 1  # what was done again is logged once


def test_only_the_last_checkpoints_are_kept_and_the_model_is_exported(tmp_path: Path) -> None:
    losses(tmp_path)
    assert [path.name for path in loop.checkpoints(tmp_path)] == ["step-00000008", "step-00000012"]
    assert (tmp_path / "model/exported").exists()
    assert not list(tmp_path.rglob("*.partial"))


def test_evaluation_does_not_disturb_training(tmp_path: Path) -> None:
    often = LoopConfig(**{**CONFIG.__dict__, "evaluate_every": 1})
    curve = [r.metrics["loss"] for r in loop.train(Line(), often, tmp_path / "a", {}) if r.kind == "step"]
    assert curve == losses(tmp_path / "b")


def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint_kept(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="loss became nan at step 11"):
        list(loop.train(Line(breaks_at=10), CONFIG, tmp_path, {}))
    assert loop.checkpoints(tmp_path)[-1].name == "step-00000008"


def test_a_folder_in_use_is_refused_without_resume(tmp_path: Path) -> None:
    losses(tmp_path)
    with pytest.raises(OutputError, match="--resume"):
        next(loop.train(Line(), CONFIG, tmp_path, {}))


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another folder"):
        next(loop.train(Line(), CONFIG, tmp_path / "file", {}))


def test_the_learning_rate_warms_up_and_decays() -> None:
    config = LoopConfig(steps=100, warmup_steps=10, final_learning_rate=0.1)
    scales = [learning_rate_scale(config, step) for step in range(100)]
    assert scales[0] == pytest.approx(0.1) and max(scales) == pytest.approx(1.0)
    assert scales[:10] == sorted(scales[:10]) and scales[10:] == sorted(scales[10:], reverse=True)
    assert scales[-1] == pytest.approx(0.1, abs=0.01)


def test_the_average_trails_the_weights_and_copies_the_buffers() -> None:
    module = nn.BatchNorm1d(2)
    average = ExponentialAverage(module, 0.5)
    nn.init.constant_(module.weight, 3.0)
    module.running_mean.fill_(7.0)
    average.update(module, step=1_000)
    assert average.module.weight.tolist() == [2.0, 2.0]
    assert average.module.running_mean.tolist() == [7.0, 7.0]


def test_the_average_is_a_copy_at_first_and_then_moves_at_every_nth_step() -> None:
    module = nn.Linear(1, 1)
    average = ExponentialAverage(module, 0.5, start=1, every=2)
    seen = []
    for step in range(5):
        nn.init.constant_(module.weight, step + 1.0)
        average.update(module, step)
        seen.append(float(average.module.weight))  # type: ignore[arg-type]
    assert seen[:4] == [1.0, pytest.approx(1 + 0.9), pytest.approx(1.9), seen[3]] and seen[4] == seen[3] > seen[2]


def test_the_callers_accelerator_is_the_one_that_the_task_gets(tmp_path: Path) -> None:
    own, task = loop.new_accelerator("fp32"), Line()
    list(loop.train(task, dataclasses.replace(CONFIG, steps=1), tmp_path, {}, accelerator=own))
    assert task.accelerator is own


def test_two_runs_of_one_process_may_have_different_precisions(tmp_path: Path) -> None:
    for precision in ("bf16", "fp32"):
        config = dataclasses.replace(CONFIG, precision=precision, steps=1)
        assert len(list(loop.train(Line(), config, tmp_path / precision, {}))) == 3


def test_the_average_of_a_resumed_run_is_that_of_one_never_stopped(tmp_path: Path) -> None:
    """[19: what is not saved begins anew]"""
    averages = []
    for name, stops in (("whole", (12,)), ("cut", (8, 12))):
        for steps in stops:
            task, config = Line(), dataclasses.replace(CONFIG, steps=steps, schedule="constant")
            list(loop.train(task, config, tmp_path / name, {}, resume=True))
        averages.append(task.average.module.state_dict())
    for name, weight in averages[0].items():
        assert torch.equal(averages[1][name], weight), name


def test_a_checkpoint_of_another_name_goes_on_at_its_own_step(tmp_path: Path) -> None:
    """[19: resuming takes the step from a file name]"""
    losses(tmp_path, stop_after=10)
    loop.checkpoints(tmp_path)[-1].rename(tmp_path / "checkpoints/step-99999999")
    assert len(losses(tmp_path, resume=True)) == 4


def test_the_recipe_of_a_run_lies_beside_it(tmp_path: Path) -> None:
    """[19: hyper-parameters are dropped]"""
    next(loop.train(Line(), CONFIG, tmp_path, {"loop": {"steps": 12}}))
    assert json.loads((tmp_path / "recipe.json").read_text()) == {"loop": {"steps": 12}}
