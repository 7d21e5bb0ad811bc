import pytest
import torch

from audiogen_cli.ops import patterns

SPECIAL = 99
NAMES = sorted(patterns.PATTERNS)


def test_delay_is_the_table_of_the_reference_for_four_codebooks() -> None:
    codes = torch.arange(1, 6).repeat(4, 1)[None]  # frame t holds t + 1 in every codebook
    steps = patterns.apply(codes, patterns.delay(4, 5), SPECIAL)
    x = SPECIAL
    assert steps[0].tolist() == [
        [1, 2, 3, 4, 5, x, x, x],
        [x, 1, 2, 3, 4, 5, x, x],
        [x, x, 1, 2, 3, 4, 5, x],
        [x, x, x, 1, 2, 3, 4, 5],
    ]


def test_stereo_delays_pair_the_channels() -> None:
    step = patterns.delay(8, 3, [0, 0, 1, 1, 2, 2, 3, 3])
    assert patterns.num_steps(step) == 3 + 3
    assert step[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert torch.equal(step[0::2], step[1::2])


def test_flatten_gives_every_code_its_own_step() -> None:
    step = patterns.flatten(3, 4)
    assert patterns.valid(step).sum(dim=0).tolist() == [1] * 12
    assert step[:, 1].tolist() == [3, 4, 5]


def test_coarse_first_finishes_the_first_codebook_before_the_others() -> None:
    step = patterns.coarse_first(3, 4)
    assert step[0].tolist() == [0, 1, 2, 3]
    assert step[1].tolist() == step[2].tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("num_codebooks", "num_frames"), [(1, 1), (1, 6), (4, 1), (4, 7)])
def test_revert_undoes_apply(name: str, num_codebooks: int, num_frames: int) -> None:
    codes = torch.randint(0, 50, (2, num_codebooks, num_frames))
    step = patterns.PATTERNS[name](num_codebooks, num_frames)
    steps = patterns.apply(codes, step, SPECIAL)
    assert torch.equal(patterns.revert(steps, step), codes)
    assert torch.equal(steps[0] != SPECIAL, patterns.valid(step))


@pytest.mark.parametrize("name", NAMES)
def test_frames_are_done_when_their_last_code_is(name: str) -> None:
    step = patterns.PATTERNS[name](3, 5)
    expected = [int((step.max(dim=0).values <= s).sum()) for s in range(patterns.num_steps(step))]
    assert patterns.frames_done(step) == expected
    assert expected[-1] == 5


def test_no_frames_make_no_steps() -> None:
    step = patterns.delay(4, 0)
    assert patterns.num_steps(step) == 0
    assert patterns.frames_done(step) == []
