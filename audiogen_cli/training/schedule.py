"""Learning rates by the classes of torch.optim.lr_scheduler, as functions of the step.

    schedule = TorchSchedule(StepLR, {"step_size": 1000, "gamma": 0.5}, learning_rate=2e-4, warmup_steps=100)
    schedule(2500) -> 0.25

Our loop asks for the rate of a step (training/loop.py), where those classes count steps as they pass. So the class is
run ahead beside the training: one that is resumed finds the rate that it would have had, and nothing is to be saved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from audiogen_cli.errors import InputError

Schedule = Callable[[int], float]


class TorchSchedule:
    """The factor on the learning rate at a step counted from 0; it grows from nothing over `warmup_steps`.

    scheduler: called with an optimizer and `options`. Raises InputError for options that it refuses, or where its rates
    follow from more than the step.
    """

    def __init__(
        self, scheduler: Callable[..., Any], options: Mapping[str, Any], learning_rate: float, warmup_steps: int
    ) -> None:
        self.learning_rate, self.warmup_steps = learning_rate, warmup_steps
        self._optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(()))], learning_rate)
        self._factors: list[float] = []
        try:
            self._scheduler = scheduler(self._optimizer, **options)
            self(1)
        except (TypeError, ValueError) as error:
            name = getattr(scheduler, "__name__", str(scheduler))
            raise InputError(f"the scheduler {name} cannot be used: {error}; change scheduler_kwargs.") from error

    def __call__(self, step: int) -> float:
        while len(self._factors) <= step:
            self._factors.append(self._optimizer.param_groups[0]["lr"] / self.learning_rate)
            self._optimizer.step()
            self._scheduler.step()
        return self._factors[step] * min(1.0, (step + 1) / max(1, self.warmup_steps))
