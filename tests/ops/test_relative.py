import torch

from audiogen_cli.ops.relative import START, Places, RelativeBias


def places(frames: int, levels: int, first_level: int = 0, axis: int = 1) -> Places:
    count = torch.arange(frames * levels)
    return Places(torch.full_like(count, axis), count // levels, first_level + count % levels, torch.zeros_like(count))


def start() -> Places:
    return Places(torch.tensor([START]), *(torch.tensor([0]) for _ in range(3)))


def bias(heads: int = 3) -> RelativeBias:
    torch.manual_seed(0)
    module = RelativeBias(16, heads)
    torch.nn.init.normal_(module.start)
    torch.nn.init.normal_(module.other_axis)
    return module


def test_every_pair_is_the_network_of_its_own_distance() -> None:
    module, here = bias(), places(4, 2)
    table = module(here, here)
    assert table.shape == (1, 3, 8, 8)
    for i in range(8):
        for j in range(8):
            frames = here.frame[i] - here.frame[j]
            pair = torch.tensor([frames.sign() * frames.abs().float().log1p(), here.level[i] - here.level[j]])
            torch.testing.assert_close(table[0, :, i, j], module.network(pair))


def test_the_bias_varies_with_the_distance_into_the_past() -> None:
    """open-musiclm's buckets have the sign wrong: all of the past is one distance to them (reference 1.14, 25)."""
    past = bias()(places(20, 1), places(20, 1))[0, :, -1]  # the last query, all keys
    assert len({round(float(value), 5) for value in past[0]}) == 20


def test_tokens_of_one_frame_are_neighbours_in_both_blocks() -> None:
    module = bias()
    coarse, fine = places(6, 2), places(6, 3, first_level=2)
    table = module(fine, coarse)[0]
    for t in range(6):  # fine level 2 of frame t to coarse level 1 of frame t, wherever the frame is
        torch.testing.assert_close(table[:, 3 * t, 2 * t + 1], table[:, 0, 1])


def test_groups_are_a_distance_of_their_own() -> None:
    """[1.13: positions with grouped RVQ]"""
    torch.manual_seed(0)
    module, here = RelativeBias(16, 3, grouped=True), places(3, 4)
    here = here._replace(level=here.level // 2, group=here.level % 2)
    table = module(here, here)[0]
    for i in range(12):
        for j in range(12):
            frames = (here.frame[i] - here.frame[j]).float()
            rest = [here.level[i] - here.level[j], here.group[i] - here.group[j]]
            point = torch.tensor([frames.sign() * frames.abs().log1p(), *rest])
            torch.testing.assert_close(table[:, i, j], module.network(point))


def test_start_tokens_and_other_times_have_numbers_of_their_own() -> None:
    module = bias()
    both = Places.cat([start(), places(3, 1, axis=0), start(), places(3, 2)])
    table = module(both, both)[0]
    for index in (0, 4):
        assert (table[:, index] == module.start[:, None]).all() and (table[:, :, index] == module.start[:, None]).all()
    assert (table[:, 5:, 1:4] == module.other_axis[:, None, None]).all()


def test_one_row_is_that_of_the_whole() -> None:
    module, here = bias(), Places.cat([start(), places(5, 2)])
    whole = module(here, here)
    for i in range(11):
        row = module(Places(*(part[i : i + 1] for part in here)), Places(*(part[: i + 1] for part in here)))
        torch.testing.assert_close(row[0, :, 0], whole[0, :, i, : i + 1], atol=1e-6, rtol=1e-6)
