import itertools

import pytest
import torch

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.errors import ModelError
from audiogen_cli.models.audiolm import Block, Stage, StageConfig
from audiogen_cli.models.decoding import Sampling, finish
from audiogen_cli.models.depth import DepthConfig, DepthStage
from audiogen_cli.models.speculative import speculate
from audiogen_cli.models.stage_decoding import Item, decode
from audiogen_cli.ops.sampling import probabilities

BLOCKS = {
    "semantic": (Block("semantic", 9),),
    "coarse": (Block("semantic", 9), Block("acoustic", 7, 2)),
    "fine": (Block("acoustic", 7, 2), Block("acoustic", 7, 3, 2)),
}


def tiny(stage: str, seed: int = 0, layers: int = 2, **more) -> Stage:
    torch.manual_seed(seed)
    settings = {"conditioning": "cross", "condition_dim": 12, "blocks": BLOCKS[stage]} | more
    return Stage(StageConfig(stage, settings.pop("blocks"), 16, layers, num_heads=2, head_dim=8, **settings)).eval()


def ids(count: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, size, (count,), generator=torch.Generator().manual_seed(seed))


def text(*lengths: int) -> Condition:
    embedding = torch.randn(len(lengths), 6, 12, generator=torch.Generator().manual_seed(1))
    return Condition(embedding, torch.arange(6) < torch.tensor(lengths)[:, None])


@pytest.mark.parametrize(("stage", "positions"), list(itertools.product(BLOCKS, ["relative", "rope"])))
def test_greedily_the_ids_are_those_without_a_draft(stage: str, positions: str) -> None:
    """Whatever the draft: another, or the stage itself, which is always right."""
    model = tiny(stage, positions=positions)
    prefix = [None, None] if stage == "semantic" else [ids(4, 7), ids(6, 7, 1)]
    items = [Item(ids(6, 7, n), 18 + 6 * n, n, prefix[n]) for n in range(2)]
    expected = finish(decode(model, items, text(3, 6), Sampling(0.0, guidance=2.0)))
    for draft in (model, tiny(stage, 1, 1, conditioning="none")):
        found = finish(speculate(model, draft, items, text(3, 6), Sampling(0.0, guidance=2.0)))
        assert [row.tolist() for row in found] == [row.tolist() for row in expected]


def test_an_item_is_the_same_alone_and_in_any_batch() -> None:
    model, draft, condition = tiny("semantic"), tiny("semantic", 1, 1), text(3, 6, 0)
    items = [Item(ids(4, 9, n), 14, n) for n in range(3)]
    together = finish(speculate(model, draft, items, condition, Sampling(guidance=2.0)))
    for row, item in enumerate(items):
        alone = Condition(condition.embedding[row : row + 1], condition.mask[row : row + 1])
        [mine] = finish(speculate(model, draft, [item], alone, Sampling(guidance=2.0)))
        assert torch.equal(mine, together[row])


@torch.no_grad()
def exact(stage: Stage, length: int, how: Sampling) -> dict[tuple[int, ...], float]:
    """How likely every sound of at most so many ids is, from whole sequences without a cache."""
    found, open_ones = dict[tuple[int, ...], float](), {(): 1.0}
    for place in range(length):
        longer = dict[tuple[int, ...], float]()
        for known, weight in open_ones.items():
            logits = stage([torch.tensor([known]).long()])[0][0, -1]
            if not place:
                logits[stage.config.end] = -torch.inf
            for code, share in enumerate(probabilities(logits, how.temperature, how.top_k, how.top_p).tolist()):
                if code == stage.config.end and share:
                    found[known] = weight * share
                elif share:
                    longer[*known, code] = weight * share
        open_ones = longer
    return found | open_ones


@pytest.mark.parametrize("how", [Sampling(0.7, top_k=0), Sampling(1.0, top_k=3)])
def test_the_ids_are_distributed_as_those_of_the_stage_alone(how: Sampling) -> None:
    """Chi-square of 400 sounds against the exact distribution, which the draft's own sounds would fail by far."""
    settings = {"blocks": (Block("semantic", 4),), "conditioning": "none", "unique_consecutive": False}
    model, draft, count = tiny("semantic", 0, 1, **settings), tiny("semantic", 3, 1, **settings), 400
    with torch.no_grad():
        for stage in (model, draft):
            stage.heads[0][0].weight *= 0.35
    wanted, drafted = exact(model, 3, how), exact(draft, 3, how)
    assert abs(sum(wanted.values()) - 1) < 1e-5
    seen = dict.fromkeys(wanted, 0)
    for seed in range(count):
        [row] = finish(speculate(model, draft, [Item(ids(0, 4), 3, seed)], sampling=how, ahead=2))
        assert row.dtype == torch.int64
        seen[tuple(row.tolist())] += 1

    def distance(shares: dict[tuple[int, ...], float]) -> float:
        """Sounds expected fewer than 5 times are counted together."""
        rare = [key for key in wanted if count * wanted[key] < 5]
        cells = [[key] for key in wanted if key not in rare] + ([rare] if rare else [])
        sums = [tuple(count * sum(part.get(key, 0.0) for key in cell) for part in (shares, wanted)) for cell in cells]
        assert len(cells) > 20
        return sum((mine - theirs) ** 2 / theirs for mine, theirs in sums) / len(cells)

    found = distance({key: number / count for key, number in seen.items()})
    assert found < 1.9  # 1 is the mean; of 20 cells and more, once in a hundred seeds
    assert distance(drafted) > 5


def test_a_draft_that_is_right_saves_passes_and_one_that_is_wrong_costs_none() -> None:
    """The large stage reads its prompt, and then once for every `ahead` ids that were right and one of its own."""
    model, passes = tiny("semantic", conditioning="none"), []
    with torch.no_grad():
        model.heads[0][0].weight[-1] = -100 * model.heads[0][0].weight[:-1].abs().sum(0)
        model.out_norm.weight.zero_()
        model.out_norm.bias.fill_(1)  # it never ends
    same = Stage(model.config).eval()
    same.load_state_dict(model.state_dict())
    wrong = tiny("semantic", 5, conditioning="none")
    model.transformer.register_forward_hook(lambda *_: passes.append(1))
    for draft, most in ((same, 1 + 4), (wrong, 1 + 20)):
        passes.clear()
        [row] = finish(speculate(model, draft, [Item(ids(2, 9), 22, 0)], sampling=Sampling(0.0)))
        assert len(row) == 22 and len(passes) <= most


@torch.no_grad()
@pytest.mark.parametrize("stage", BLOCKS)
def test_what_is_cut_from_a_cache_has_never_been_read(stage: str) -> None:
    model, blocks = tiny(stage), [ids(5 * b.num_levels, 7)[None] for b in BLOCKS[stage]]
    cache, fresh = (model.cache(1, [block.shape[1] for block in blocks]) for _ in range(2))
    model(blocks, text(3), cache)
    model.cut(cache, 3)
    model([*blocks[:-1], blocks[-1][:, :3]], text(3), fresh)
    assert (cache.read, cache.keys.length) == (fresh.read, fresh.keys.length)
    again, expected = (model.more((blocks[-1][:, 3:5] + 1) % 7, which, text(3)) for which in (cache, fresh))
    torch.testing.assert_close(again, expected, atol=1e-5, rtol=0)


def test_nothing_is_made_where_nothing_is_missing_and_progress_grows() -> None:
    model = tiny("fine")
    items = [Item(ids(6, 7), 6, 0, ids(4, 7)), Item(ids(0, 7), 12, 1, ids(8, 7))]
    steps = list(speculate(model, model, items))
    assert steps == sorted(steps) and steps[-1] == 12
    assert torch.equal(finish(speculate(model, model, items[:1]))[0], items[0].prompt)


def test_a_draft_of_other_ids_is_refused() -> None:
    with pytest.raises(ModelError, match="has other ids"):
        list(speculate(tiny("semantic"), tiny("semantic", blocks=(Block("semantic", 8),)), []))
    frames = DepthStage(DepthConfig("coarse", BLOCKS["coarse"], 16, 1, num_heads=2, depth_dim=8))
    with pytest.raises(ModelError, match="leave the draft out"):
        list(speculate(frames, tiny("coarse"), []))
