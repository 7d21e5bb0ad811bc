import itertools

import pytest
import torch

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.models.audiolm import Block, Stage, StageConfig
from audiogen_cli.models.decoding import Sampling, finish
from audiogen_cli.models.stage_decoding import Item, decode

BLOCKS = {
    "semantic": (Block("semantic", 9),),
    "coarse": (Block("semantic", 9), Block("acoustic", 7, 2)),
    "fine": (Block("acoustic", 7, 2), Block("acoustic", 7, 3, 2)),
}


def tiny(stage: str, **more) -> Stage:
    torch.manual_seed(0)
    settings = {"conditioning": "cross", "condition_dim": 12} | more
    return Stage(StageConfig(stage, BLOCKS[stage], 16, 2, num_heads=2, head_dim=8, **settings)).eval()


def never_ends(stage: Stage) -> Stage:
    with torch.no_grad():
        stage.heads[-1][0].weight[-1] = -100 * stage.heads[-1][0].weight[:-1].abs().sum(0)
        stage.out_norm.weight.zero_()
        stage.out_norm.bias.fill_(1)
    return stage


def ids(count: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, size, (count,), generator=torch.Generator().manual_seed(seed))


def text(*lengths: int) -> Condition:
    embedding = torch.randn(len(lengths), 6, 12, generator=torch.Generator().manual_seed(1))
    return Condition(embedding, torch.arange(6) < torch.tensor(lengths)[:, None])


def made(stage: Stage, items: list[Item], condition: Condition | None = None, **more) -> list[list[int]]:
    return [row.tolist() for row in finish(decode(stage, items, condition, Sampling(**more)))]


@pytest.mark.parametrize(("stage", "guidance"), list(itertools.product(BLOCKS, [1.0, 3.0])))
def test_an_item_is_the_same_alone_and_in_any_batch(stage: str, guidance: float) -> None:
    model = tiny(stage)
    prefix = [None, None, None] if stage == "semantic" else [ids(4, 7), ids(6, 7, 1), ids(4, 7, 2)]
    items = [Item(ids(6, 7, n), 12, n, prefix[n]) for n in range(3)]
    condition = text(3, 6, 0)
    together = made(model, items, condition, guidance=guidance)
    for row, item in enumerate(items):
        alone = Condition(condition.embedding[row : row + 1], condition.mask[row : row + 1])
        assert made(model, [item], alone, guidance=guidance) == [together[row]]
        assert together[row][:6] == item.prompt.tolist()


def test_guidance_1_is_the_conditional_model() -> None:
    model = tiny("semantic")
    item = Item(ids(2, 9), 8, 3)
    with_text = made(model, [item], text(4), guidance=1.0)
    assert with_text == made(model, [item], text(4), guidance=1.0 + 1e-9)
    items = [Item(ids(2, 9), 8, n) for n in range(4)]
    assert made(model, items, text(4, 4, 4, 4), guidance=9.0) != made(model, items, text(0, 0, 0, 0))


def test_a_row_stops_at_its_own_end() -> None:
    """[7: the coarse stage always makes 512 frames]"""
    model = tiny("coarse", conditioning="none")
    lengths = {len(row) for row in made(model, [Item(ids(0, 7), 60, n, ids(3, 9)) for n in range(8)])}
    assert len(lengths) > 1 and max(lengths) < 60
    assert all(length % 2 == 0 and length > 0 for length in lengths)


def test_something_new_is_made_before_the_end() -> None:
    model = tiny("coarse", conditioning="none")
    with torch.no_grad():
        model.heads[-1][0].weight[-1] = 100 * model.heads[-1][0].weight[:-1].abs().sum(0)
        model.out_norm.weight.zero_()
        model.out_norm.bias.fill_(1)  # nothing is likelier than the end
    for length in (0, 4):
        [row] = made(model, [Item(ids(length, 7), 20, 0, ids(3, 9))])
        assert len(row) == length + 2


def test_without_repeated_ids_the_next_one_differs_from_the_last() -> None:
    model = never_ends(tiny("semantic", conditioning="none"))
    [row] = made(model, [Item(ids(0, 9), 200, 0)], temperature=5.0)
    assert all(a != b for a, b in itertools.pairwise(row))
    kept = never_ends(tiny("semantic", conditioning="none", unique_consecutive=False))
    [row] = made(kept, [Item(ids(0, 9), 200, 0)], temperature=5.0)
    assert any(a == b for a, b in itertools.pairwise(row))


def test_temperature_0_is_the_likeliest_and_the_seed_does_not_matter() -> None:
    """[2.15: the seed divides by the temperature]"""
    model = tiny("fine")
    rows = made(model, [Item(ids(0, 7), 12, n, ids(8, 7)) for n in range(2)], temperature=0.0)
    assert rows[0] == rows[1] and len(rows[0]) == 12


def test_the_last_code_of_the_fine_stage_is_made() -> None:
    """[5]"""
    [row] = made(tiny("fine"), [Item(ids(0, 7), 300, 0, ids(200, 7))], temperature=50.0, top_k=0)
    for level in range(3):
        assert set(row[level::3]) == set(range(7))


def test_a_prompt_as_long_as_the_sound_is_the_sound() -> None:
    assert made(tiny("fine"), [Item(ids(6, 7), 6, 0, ids(4, 7))]) == [ids(6, 7).tolist()]


def test_progress_counts_up_to_the_length() -> None:
    steps = list(decode(never_ends(tiny("semantic")), [Item(ids(2, 9), 6, 0)]))
    assert steps == [3, 4, 5, 6]


@torch.no_grad()
def test_guided_decoding_is_the_slow_way() -> None:
    """[1: null equals conditional] Greedy, by the cache: the argmax over whole sequences of a stage that hears."""
    model, condition, prefix, found = tiny("fine"), text(4), ids(16, 7), {}
    for guidance in (1.0, 20.0):
        [found[guidance]] = made(model, [Item(ids(0, 7), 24, 0, prefix)], condition, temperature=0.0, guidance=guidance)
        known = torch.empty(1, 0).long()
        for _ in range(24):
            cond, null = (model([prefix[None], known], c)[-1][0, -1] for c in (condition, condition.null()))
            known = torch.cat([known, (null + (cond - null) * guidance).argmax().view(1, 1)], 1)
        assert found[guidance] == known[0].tolist()
    assert found[1.0] != found[20.0]


def test_nothing_is_made_after_the_last_row_has_ended() -> None:
    """[7: the coarse stage always makes 512 frames, which are masked afterwards]"""
    model = tiny("coarse", conditioning="none")
    items = [Item(ids(0, 7), 60, n, ids(3, 9)) for n in range(2)]
    longest = max(len(row) for row in made(model, items))
    assert max(decode(model, items)) == longest + 1 < 60  # the end is an id too
