"""The stage of two transformers, held to what is held of every stage (tests/models/test_audiolm.py)."""

import itertools

import pytest
import torch

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.config import from_dict, to_dict
from audiogen_cli.errors import ConfigError
from audiogen_cli.models.audiolm import Block, forget, stage_loss
from audiogen_cli.models.decoding import Sampling, finish
from audiogen_cli.models.depth import DepthConfig, DepthStage
from audiogen_cli.models.stage_decoding import Item, decode
from audiogen_cli.ops.ids import padded

LEVELS = 3
BLOCKS = (Block("semantic", 9), Block("acoustic", 7, LEVELS))
OPTIONS = list(itertools.product(["none", "cross", "prefix"], ["relative", "rope"]))


def tiny(conditioning: str = "cross", positions: str = "relative", **more) -> DepthStage:
    torch.manual_seed(0)
    settings = {"num_heads": 2, "head_dim": 6, "condition_dim": 12, "depth_dim": 16, "depth_layers": 2} | more
    config = DepthConfig("coarse", BLOCKS, 16, 2, conditioning=conditioning, positions=positions, **settings)
    return DepthStage(config).eval()


def text(*lengths: int) -> Condition:
    embedding = torch.randn(len(lengths), 6, 12, generator=torch.Generator().manual_seed(1))
    return Condition(embedding, torch.arange(6) < torch.tensor(lengths)[:, None])


def ids(count: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, size, (count,), generator=torch.Generator().manual_seed(seed))


def batch(*frames: int) -> list[torch.Tensor]:
    words = [ids(n + 2, 9, n) for n in frames]
    return [padded(words), padded([ids(n * LEVELS, 7, n) for n in frames])]


@torch.no_grad()
@pytest.mark.parametrize(("conditioning", "positions"), OPTIONS)
def test_cached_pieces_give_the_logits_of_the_whole(conditioning: str, positions: str) -> None:
    """Both caches, whatever the pieces: codes one by one, frames, or what cuts a frame in two."""
    model, condition, blocks = tiny(conditioning, positions), text(3, 5), batch(4, 3)
    whole = model(blocks, condition)[-1]
    lengths = [block.shape[1] for block in blocks]
    for first, size, rows in ((0, 1, None), (4, 1, 1), (3, 3, 1), (2, 5, None)):
        cache = model.cache(2, lengths, rows)
        parts = [model([blocks[0], blocks[1][:, :first]], condition, cache)[-1]]
        parts += [model.more(piece, cache, condition) for piece in blocks[1][:, first:].split(size, dim=1)]
        torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("conditioning", "positions"), OPTIONS)
def test_a_row_of_a_padded_batch_gets_the_logits_it_gets_alone(conditioning: str, positions: str) -> None:
    model, lengths, frames = tiny(conditioning, positions), (5, 0, 3), (4, 2, 3)
    condition = text(*lengths)
    together = model(batch(*frames), condition)
    for row, length in enumerate(lengths):
        mine = (part[row : row + 1, : max(length, 1)] for part in (condition.embedding, condition.mask))
        for alone, whole in zip(model(batch(frames[row]), Condition(*mine)), together, strict=True):
            torch.testing.assert_close(alone[0], whole[row, : alone.shape[1]], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("conditioning", ["cross", "prefix"])
def test_null_logits_do_not_depend_on_the_text_and_conditional_ones_do(conditioning: str) -> None:
    model, blocks, condition = tiny(conditioning), batch(3, 3), text(3, 5)
    other = Condition(condition.embedding * 7 + 1, condition.mask)
    mine = model(blocks, condition.null())[-1]
    assert torch.equal(mine, model(blocks, other.null())[-1])
    real = mine.isfinite()
    assert (model(blocks, condition)[-1] - mine)[real].abs().max() > 1e-3
    torch.testing.assert_close(model(blocks)[-1], mine, atol=1e-5, rtol=0)


@torch.no_grad()
def test_logits_hear_every_earlier_id_and_no_later_one() -> None:
    model, blocks = tiny(), batch(3)
    before = model(blocks, text(3))[-1]
    for place in range(blocks[1].shape[1]):
        changed = blocks[1].clone()
        changed[0, place] = (changed[0, place] + 1) % 7
        after = model([blocks[0], changed], text(3))[-1]
        assert torch.equal(after[:, : place + 1], before[:, : place + 1])
        assert ((after - before)[:, place + 1 :, 0] != 0).all()
    heard = model([blocks[0].roll(1, dims=1), blocks[1]], text(3))[-1]
    assert ((heard - before)[..., 0] != 0).all()


@torch.no_grad()
def test_every_code_can_be_chosen_and_the_end_only_between_frames() -> None:
    logits = tiny()(batch(4))[-1][0]
    assert logits.shape == (4 * LEVELS + 1, 8) and logits[:, :7].isfinite().all()
    assert logits[:, 7].isfinite().tolist() == [place % LEVELS == 0 for place in range(len(logits))]


def test_the_large_transformer_reads_a_frame_once() -> None:
    """What it is for: Q times fewer steps of the large transformer than flattened ids would take."""
    model, steps = tiny("none"), []
    model.transformer.register_forward_hook(lambda _, inputs, __: steps.append(inputs[0].shape[1]))
    items = [Item(ids(0, 7), 6 * LEVELS, 0, ids(4, 9))]
    with torch.no_grad():
        model.heads[-1][0].weight[-1] = -100 * model.heads[-1][0].weight[:-1].abs().sum(0)
        model.level_norm.weight.zero_()
        model.level_norm.bias.fill_(1)  # it never ends
    [made] = finish(decode(model, items))
    assert len(made) == 6 * LEVELS and steps == [4 + 2, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_an_item_is_the_same_alone_and_in_any_batch(guidance: float) -> None:
    model, condition = tiny(), text(3, 6, 0)
    items = [Item(ids(2 * LEVELS, 7, n), 5 * LEVELS, n, ids(4, 9, n)) for n in range(3)]
    together = finish(decode(model, items, condition, Sampling(guidance=guidance)))
    for row, item in enumerate(items):
        alone = Condition(condition.embedding[row : row + 1], condition.mask[row : row + 1])
        [mine] = finish(decode(model, [item], alone, Sampling(guidance=guidance)))
        assert torch.equal(mine, together[row]) and torch.equal(mine[: 2 * LEVELS], item.prompt)


def test_the_cheap_way_is_the_slow_way() -> None:
    """Greedy decoding through both caches is the argmax over whole sequences, guidance included."""
    model, condition, prefix = tiny(), text(4), ids(5, 9)
    [found] = finish(decode(model, [Item(ids(0, 7), 8, 0, prefix)], condition, Sampling(0.0, guidance=2.0)))
    known = torch.empty(1, 0).long()
    with torch.no_grad():
        for _ in range(len(found)):
            cond, null = (model([prefix[None], known], c)[-1][0, -1] for c in (condition, condition.null()))
            logits = (null + (cond - null) * 2.0)[: 7 if known.shape[1] == 0 else 8].nan_to_num(-torch.inf)
            known = torch.cat([known, logits.argmax().view(1, 1)], 1)
    assert found.tolist() == known[0].tolist()


def test_it_learns_from_every_level_and_forgets_whole_frames() -> None:
    model, blocks = tiny(forget=0.5).train(), batch(4, 3)
    loss = stage_loss(model, model.config, blocks, torch.tensor([True, False]), text(3, 5))
    loss.mean.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    hidden = torch.zeros_like(forget(blocks, 0.5))
    hidden[:, blocks[0].shape[1] + 1 + 1 + LEVELS] = True  # the first id of the second frame
    changed = blocks[1].clone()
    changed[:, LEVELS : 2 * LEVELS] = (changed[:, LEVELS : 2 * LEVELS] + 1) % 7
    with torch.no_grad():
        model.eval()
        mine, theirs = (model([blocks[0], codes], None, None, hidden)[-1] for codes in (blocks[1], changed))
    torch.testing.assert_close(mine[:, 3 * LEVELS :], theirs[:, 3 * LEVELS :])
    assert not torch.equal(mine[:, 2 * LEVELS], theirs[:, 2 * LEVELS])


def test_a_codec_of_one_codebook_is_served_too() -> None:
    blocks = (Block("semantic", 9), Block("acoustic", 7, 1))
    model = DepthStage(DepthConfig("coarse", blocks, 16, 1, num_heads=2, depth_dim=8, depth_layers=1)).eval()
    whole, cache = model([ids(3, 9)[None], ids(4, 7)[None]])[-1], model.cache(1, [3, 4])
    parts = [model([ids(3, 9)[None], ids(4, 7)[None, :1]], None, cache)[-1], model.more(ids(4, 7)[None, 1:], cache)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=0)


def test_a_configuration_survives_its_file_and_a_wrong_one_is_refused() -> None:
    config = tiny().config
    assert from_dict(DepthConfig, to_dict(config)) == config
    with pytest.raises(ConfigError, match="multiple of depth_heads"):
        from_dict(DepthConfig, to_dict(config) | {"depth_heads": 3})
    with pytest.raises(ConfigError, match="not a fine one"):
        from_dict(DepthConfig, to_dict(config) | {"stage": "fine"})


@torch.no_grad()
def test_no_two_codes_of_a_frame_are_read_from_one_row() -> None:
    """[4: the last code of one level is the first of the next]"""
    model, heard = tiny("none"), list[torch.Tensor]()
    model.level_table.register_forward_hook(lambda _, given, __: heard.append(given[0]))
    model([ids(4, 9)[None], torch.arange(7).repeat_interleave(LEVELS)[None]])
    rows = heard[0][:7]  # [frames, levels but the last]; a frame more has begun
    assert sorted(rows.flatten().tolist()) == list(range(7 * (LEVELS - 1)))
