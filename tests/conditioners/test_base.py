"""A condition carries its own mask: what is dropped, padded or nulled is masked, never merely zero."""

import torch

from audiogen_cli.conditioners.base import Condition


def condition(batch: int, length: int) -> Condition:
    return Condition(torch.randn(batch, length, 8), torch.ones(batch, length, dtype=torch.bool))


def test_the_null_condition_keeps_the_shape_and_masks_everything() -> None:
    full = condition(2, 5)
    null = full.null()
    assert null.embedding.shape == full.embedding.shape
    assert null.mask.shape == full.mask.shape and not null.mask.any()
    assert full.mask.all(), "the original is untouched"


def test_dropping_takes_whole_rows_and_leaves_the_others() -> None:
    full = Condition(torch.randn(3, 4, 8), torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]]).bool())
    dropped = full.drop(torch.tensor([False, True, False]))
    assert torch.equal(dropped.mask[[0, 2]], full.mask[[0, 2]])
    assert not dropped.mask[1].any()


def test_joined_batches_are_padded_with_masked_zeros() -> None:
    short, long = condition(2, 3), condition(1, 5)
    joined = Condition.cat([short, long])
    assert joined.batch_size == 3 and joined.embedding.shape == (3, 5, 8)
    assert torch.equal(joined.embedding[:2, :3], short.embedding) and torch.equal(joined.embedding[2:], long.embedding)
    assert not joined.mask[:2, 3:].any() and not joined.embedding[:2, 3:].any()
    assert joined.mask[:2, :3].all() and joined.mask[2].all()


def test_moving_to_another_dtype_leaves_the_mask_boolean() -> None:
    half = condition(1, 2).to(dtype=torch.float16)
    assert half.embedding.dtype == torch.float16 and half.mask.dtype == torch.bool
