"""The stage's own properties. Names in brackets: the defect of audiolm-pytorch that a test fails on (reference 1.14)"""

import itertools
import math

import pytest
import torch

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.config import from_dict, to_dict
from audiogen_cli.models.audiolm import Block, Stage, StageConfig, forget, stage_loss
from audiogen_cli.ops.ids import PADDING, padded

BLOCKS = {
    "semantic": (Block("semantic", 9),),
    "coarse": (Block("semantic", 9), Block("acoustic", 7, 2)),
    "fine": (Block("acoustic", 7, 2), Block("acoustic", 7, 3, 2)),
}
OPTIONS = list(
    itertools.product(
        ["semantic", "coarse", "fine"],
        ["none", "cross", "prefix"],
        ["relative", "rope"],
        [None, 1, 2],  # kv_heads
        [False, True],  # value_residual
        [1, 4],  # residual_streams
    )
)
CONDITIONED = [option for option in OPTIONS if option[1] != "none" and option[3] == 1]


def tiny(
    stage="coarse", conditioning="cross", positions="relative", kv_heads=1, value_residual=True, streams=4, **more
) -> Stage:
    torch.manual_seed(0)
    config = StageConfig(
        stage, BLOCKS[stage], 16, 2, num_heads=4, head_dim=6, conditioning=conditioning, positions=positions,
        kv_heads=kv_heads, value_residual=value_residual, residual_streams=streams, condition_dim=12, **more,
    )  # fmt: skip
    model = Stage(config).eval()
    for name, parameter in model.named_parameters():  # what starts at zero must work when it no longer is
        if "dynamic" in name or name in ("relative.start", "relative.other_axis"):
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def text(*lengths: int, pad_to: int = 0) -> Condition:
    embedding = torch.randn(len(lengths), 16, 12, generator=torch.Generator().manual_seed(1))
    embedding = embedding[:, : max(*lengths, pad_to, 1)]
    return Condition(embedding, torch.arange(embedding.shape[1]) < torch.tensor(lengths)[:, None])


def rows(stage: str, *frames: int) -> list[list[torch.Tensor]]:
    """For every block, ids of so many frames a row."""
    generator = torch.Generator().manual_seed(2)
    return [
        [torch.randint(0, b.codebook_size, (n * b.num_levels,), generator=generator) for n in frames]
        for b in BLOCKS[stage]
    ]


def batch(stage: str, *frames: int) -> list[torch.Tensor]:
    return [padded(block) for block in rows(stage, *frames)]


@torch.no_grad()
@pytest.mark.parametrize("option", OPTIONS)
def test_cached_pieces_give_the_logits_of_the_whole(option: tuple) -> None:
    """[2, 3: the seed's prefix breaks its cache, and its flash attention aligns the causal mask to the first key]"""
    model, condition, blocks = tiny(*option), text(3, 5), batch(option[0], 4, 3)
    whole = model(blocks, condition)[-1]
    lengths = [block.shape[1] for block in blocks]
    for first, rows_at_once in ((0, None), (3, 1)):
        cache = model.cache(2, lengths, rows_at_once)
        parts = [model([*blocks[:-1], blocks[-1][:, :first]], condition, cache)[-1]]
        for start in range(first, blocks[-1].shape[1]):
            parts.append(model.more(blocks[-1][:, start : start + 1], cache, condition))
        torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("option", [option for option in OPTIONS if option[0] != "semantic" and option[3] == 1])
def test_an_open_prefix_is_read_in_one_piece_and_padding_is_not_in_it(option: tuple) -> None:
    model, condition, each = tiny(*option, open_prefix=True, prefix_weight=0.0), text(3, 5), rows(option[0], 4, 3)
    blocks = [padded(block) for block in each]
    whole = model(blocks, condition)[-1]
    cache = model.cache(2, [block.shape[1] for block in blocks])
    parts = [model([*blocks[:-1], blocks[-1][:, :0]], condition, cache)[-1]]
    parts += [model.more(blocks[-1][:, i : i + 1], cache, condition) for i in range(blocks[-1].shape[1])]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=0)
    [alone] = [model([block[1][None] for block in each], Condition(condition.embedding[1:], condition.mask[1:]))[-1]]
    torch.testing.assert_close(alone[0], whole[1, : alone.shape[1]], atol=1e-5, rtol=0)


@torch.no_grad()
def test_groups_are_told_apart_through_the_cache_too() -> None:
    """[1.13: positions with grouped RVQ]"""
    torch.manual_seed(0)
    blocks = (Block("semantic", 9), Block("acoustic", 7, 4, num_groups=2))
    model = Stage(StageConfig("coarse", blocks, 16, 2, num_heads=2)).eval()
    assert model.relative.network[0].in_features == 3
    ids = [torch.randint(0, 9, (1, 5)), torch.randint(0, 7, (1, 12))]
    whole, cache = model(ids)[-1], model.cache(1, [5, 12])
    parts = [model([ids[0], ids[1][:, :4]], None, cache)[-1]]
    parts += [model.more(part, cache) for part in ids[1][:, 4:].split(3, dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("option", [option for option in OPTIONS if option[3] == 1])
def test_a_row_of_a_padded_batch_gets_the_logits_it_gets_alone(option: tuple) -> None:
    """[7: padding of the semantic ids is seen in generation]"""
    model, lengths, frames = tiny(*option), (5, 0, 3), (4, 2, 3)
    condition, each = text(*lengths), rows(option[0], *frames)
    together = model([padded(block) for block in each], condition)
    for row, length in enumerate(lengths):
        mine_alone = (part[row : row + 1, : max(length, 1)] for part in (condition.embedding, condition.mask))
        alone = model([block[row][None] for block in each], Condition(*mine_alone))
        for mine, whole in zip(alone, together, strict=True):
            torch.testing.assert_close(mine[0], whole[row, : mine.shape[1]], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("option", CONDITIONED)
def test_null_logits_do_not_depend_on_the_text_and_conditional_ones_do(option: tuple) -> None:
    """[1: guidance is a no-op when embeddings are given: null equals conditional]"""
    model, blocks, condition = tiny(*option), batch(option[0], 3, 3), text(3, 5)
    other = Condition(condition.embedding * 7 + 1, condition.mask)
    mine, theirs = model(blocks, condition.null())[-1], model(blocks, other.null())[-1]
    assert torch.equal(mine, theirs)
    real = mine.isfinite()
    for changed in (model(blocks, other)[-1], model(blocks, condition.null())[-1]):
        assert (model(blocks, condition)[-1] - changed)[real].abs().max() > 1e-3
    torch.testing.assert_close(model(blocks)[-1], mine, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("conditioning", ["cross", "prefix"])
def test_padding_the_text_changes_nothing(conditioning: str) -> None:
    model, blocks = tiny(conditioning=conditioning), batch("coarse", 3)
    torch.testing.assert_close(model(blocks, text(3, pad_to=9))[-1], model(blocks, text(3))[-1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("option", [option for option in OPTIONS if option[3:] == (1, True, 4)])
def test_logits_do_not_hear_later_ids(option: tuple) -> None:
    model, blocks = tiny(*option), batch(option[0], 4)
    with torch.no_grad():
        before = model(blocks, text(3))[-1]
        for place in range(blocks[-1].shape[1]):
            changed = blocks[-1].clone()
            changed[0, place] = (changed[0, place] + 1) % 7
            after = model([*blocks[:-1], changed], text(3))[-1]
            assert torch.equal(after[:, : place + 1], before[:, : place + 1])
            assert not torch.equal(after[:, place + 1], before[:, place + 1])


@pytest.mark.parametrize("stage", BLOCKS)
def test_no_two_ids_share_a_row_of_a_table(stage: str) -> None:
    """[4: offsets of N a level in tables of N + 1: the end of one level is id 0 of the next]"""
    model = tiny(stage)
    for number, block in enumerate(model.config.blocks):
        every = torch.arange(block.codebook_size).repeat_interleave(block.num_levels)[None]  # each id at each level
        heard = []
        hook = model.tables[number].register_forward_hook(lambda _, ids, __, heard=heard: heard.append(ids[0]))
        model([every if other == number else torch.empty(1, 0).long() for other in range(len(model.config.blocks))])
        hook.remove()
        assert sorted(heard[0].flatten().tolist()) == list(range(block.codebook_size * block.num_levels))
        assert model.tables[number].num_embeddings == block.codebook_size * block.num_levels


@torch.no_grad()
@pytest.mark.parametrize("stage", BLOCKS)
def test_every_code_can_be_chosen_and_the_end_only_between_frames(stage: str) -> None:
    """[5: the last code of the fine stage is unreachable; 2.3: the end is legal at the first level alone]"""
    model = tiny(stage)
    logits, block = model(batch(stage, 4))[-1][0], model.config.target
    assert logits[:, : block.codebook_size].isfinite().all()
    if stage == "fine":
        assert logits.shape[1] == block.codebook_size
    else:
        legal = logits[:, block.codebook_size].isfinite()
        assert legal.tolist() == [place % block.num_levels == 0 for place in range(len(logits))]


@torch.no_grad()
def test_a_level_has_the_head_of_its_own() -> None:
    model = tiny("fine")
    for level, head in enumerate(model.heads[1]):
        head.weight.zero_()
        head.weight[level] = 1
    model.out_norm.weight.zero_()
    model.out_norm.bias.fill_(1)
    chosen = model(batch("fine", 3))[-1][0].argmax(-1)
    assert chosen.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("stage", BLOCKS)
@torch.no_grad()
def test_the_loss_is_the_mean_over_all_ids_and_the_end_only_where_the_sound_ends(stage: str) -> None:
    """[6: the end is appended to every random crop in training, and never in evaluation]"""
    model, blocks = tiny(stage, forget=0.0), batch(stage, 4, 2)
    values = {}
    for ends in ((False, False), (True, False)):
        total, count = 0.0, 0
        logits = model(blocks, text(3, 2))
        for number, block in enumerate(model.config.blocks):
            for row in range(2):
                ids = blocks[number][row][blocks[number][row] != PADDING].tolist()
                last = number == len(blocks) - 1
                ids += [model.config.end] if last and ends[row] and model.config.end is not None else []
                total -= sum(float(logits[number][row, i].log_softmax(-1)[n]) for i, n in enumerate(ids))
                count += len(ids)
            del block
        for training in (False, True):
            loss = stage_loss(model, model.config, blocks, torch.tensor(ends), text(3, 2), training)
            assert float(loss.mean) == pytest.approx(total / count, abs=1e-4)
        values[ends] = float(loss.mean)
    assert (values[(False, False)] == values[(True, False)]) == (stage == "fine")


def test_an_end_within_a_frame_is_never_learned() -> None:
    model = tiny("coarse", forget=0.0)
    broken = [torch.zeros(1, 3).long(), torch.zeros(1, 3).long()]  # one frame and a half
    with_end, without = (stage_loss(model, model.config, broken, torch.tensor([end])) for end in (True, False))
    assert torch.equal(with_end.mean, without.mean)


def test_the_prefix_counts_as_much_as_it_is_told_to() -> None:
    model = tiny("coarse", forget=0.0, prefix_weight=0.0)
    loss = stage_loss(model, model.config, batch("coarse", 4, 2), torch.tensor([True, False]))
    torch.testing.assert_close(loss.mean, loss.target)


@torch.no_grad()
def test_a_guess_costs_the_logarithm_of_the_classes() -> None:
    model = tiny("coarse")
    for heads in model.heads:
        for head in heads:
            torch.nn.init.zeros_(head.weight)
    loss = stage_loss(model, model.config, batch("coarse", 4), torch.tensor([False]))
    assert float(loss.target) == pytest.approx((math.log(8) + math.log(7)) / 2, abs=1e-4)


def test_forgetting_hides_a_share_of_the_keys_and_no_start() -> None:
    torch.manual_seed(0)
    blocks = [torch.zeros(400, 20).long(), torch.zeros(400, 30).long()]
    hidden = forget(blocks, 0.15)
    assert hidden.shape == (400, 52)
    assert not hidden[:, [0, 21]].any()
    share = hidden.float().mean(1) * 52 / 50
    assert share.min() < 0.02 and share.max() < 0.35 and 0.05 < share.mean() < 0.1


def test_forgotten_keys_are_seen_by_themselves_alone_and_only_in_training() -> None:
    model, blocks = tiny("semantic", positions="rope", forget=1.0), batch("semantic", 6)
    hidden = torch.tensor([[False, True, False, False, False, False, False]])
    changed = [blocks[0].clone()]
    changed[0][0, 0] = (blocks[0][0, 0] + 1) % 9
    with torch.no_grad():
        mine, theirs = (model(ids, None, None, hidden)[0] for ids in (blocks, changed))
        assert torch.equal(mine[:, 2:], theirs[:, 2:]) and not torch.equal(mine[:, 1], theirs[:, 1])
        losses = [stage_loss(model, model.config, blocks, torch.tensor([True]), training=False) for _ in range(2)]
        assert losses[0] == losses[1]


def test_a_shrunk_gradient_is_a_share_of_the_whole_and_the_output_is_the_same() -> None:
    gradients, outputs = {}, {}
    for share in (1.0, 0.1):
        model = tiny("semantic", "none", "rope", gradient_shrink=share)
        loss = stage_loss(model, model.config, batch("semantic", 5), torch.tensor([True]), training=False)
        loss.mean.backward()
        gradients[share], outputs[share] = model.tables[0].weight.grad, loss.mean.detach()
    torch.testing.assert_close(outputs[0.1], outputs[1.0])
    torch.testing.assert_close(gradients[0.1], 0.1 * gradients[1.0], atol=1e-6, rtol=1e-4)


def test_guidance_has_something_to_pull_with_after_one_step_in_every_stage() -> None:
    for stage in BLOCKS:
        model, blocks, condition = tiny(stage), batch(stage, 3, 3), text(3, 4)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        stage_loss(model, model.config, blocks, torch.tensor([True, True]), condition).mean.backward()
        optimizer.step()
        with torch.no_grad():
            difference = model(blocks, condition)[-1] - model(blocks, condition.null())[-1]
        assert difference[difference.isfinite()].abs().max() > 1e-3


def test_a_configuration_survives_its_file() -> None:
    config = tiny("fine").config
    assert from_dict(StageConfig, to_dict(config)) == config
