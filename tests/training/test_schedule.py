import functools

import pytest
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau, StepLR

from audiogen_cli.errors import InputError
from audiogen_cli.training.schedule import TorchSchedule


def test_a_class_of_torch_gives_the_rate_of_any_step_in_any_order() -> None:
    schedule = TorchSchedule(StepLR, {"step_size": 2, "gamma": 0.1}, 0.5, 0)
    assert [schedule(step) for step in (5, 0, 2, 1)] == pytest.approx([0.01, 1, 0.1, 1])


def test_the_warm_up_is_a_line_on_top() -> None:
    schedule = TorchSchedule(functools.partial(LambdaLR, lr_lambda=lambda step: 0.5), {}, 0.01, 4)
    assert [schedule(step) for step in range(5)] == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5])


def test_a_cycle_in_absolute_rates_becomes_factors() -> None:
    schedule = TorchSchedule(OneCycleLR, {"max_lr": 0.4, "total_steps": 10}, 0.1, 0)
    assert max(schedule(step) for step in range(10)) == pytest.approx(4)


@pytest.mark.parametrize(("scheduler", "options"), [(ReduceLROnPlateau, {}), (StepLR, {"steps": 2})])
def test_what_needs_more_than_the_step_is_refused(scheduler: type, options: dict[str, int]) -> None:
    with pytest.raises(InputError, match=f"{scheduler.__name__} cannot be used"):
        TorchSchedule(scheduler, options, 0.1, 0)
