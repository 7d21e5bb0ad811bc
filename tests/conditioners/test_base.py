"""A condition carries its own mask: what is dropped, padded or nulled is masked, never merely zero."""

from dataclasses import replace

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


def with_melody(batch: int, length: int) -> Condition:
    return replace(condition(batch, length), melody=torch.randint(1, 12, (batch, 6)))


def test_the_melody_is_dropped_with_its_row_and_the_null_one_is_silence() -> None:
    full = with_melody(3, 4)
    assert full.melody is not None
    before = full.melody.clone()
    dropped, null = full.drop(torch.tensor([False, True, False])).melody, full.null().melody
    assert dropped is not None and null is not None
    assert torch.equal(dropped[[0, 2]], before[[0, 2]]) and not dropped[1].any()
    assert null.shape == before.shape and not null.any()
    assert torch.equal(full.melody, before), "the original is untouched"


def test_melodies_are_joined_and_none_of_them_is_silence() -> None:
    first, without, last = with_melody(2, 3), condition(1, 5), with_melody(1, 2)
    joined = Condition.cat([first, without, last]).melody
    assert joined is not None and first.melody is not None and last.melody is not None
    assert torch.equal(joined, torch.cat([first.melody, torch.zeros(1, 6, dtype=torch.int64), last.melody]))
    assert Condition.cat([without, condition(1, 2)]).melody is None


def test_a_melody_stays_whole_numbers() -> None:
    melody = with_melody(1, 2).to(dtype=torch.float16).melody
    assert melody is not None and melody.dtype == torch.int64
