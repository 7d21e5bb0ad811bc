"""The networks' own properties. Numbers in brackets: the defect of the seeds that a test fails on (reference 1.14)."""

import itertools

import pytest
import torch

from audiogen_cli.conditioners.symbols import Symbols
from audiogen_cli.config import from_dict, to_dict
from audiogen_cli.models.audiolm import StageConfig
from audiogen_cli.models.valle import Frames, Pace, VallE, VallEConfig, valle_loss
from audiogen_cli.ops.ids import PADDING, padded

K, V = 4, 7
TEXTS = [torch.tensor([3, 1, 2, 5, 0]), torch.tensor([4, 4, 1]), torch.tensor([2, 0, 5, 5])]


def tiny(**more) -> VallE:
    torch.manual_seed(0)
    symbols = Symbols("phonemes", tuple("abcdef"))
    settings = {"num_heads": 4, "symbols": symbols, "pace": Pace(1.0, 1.5, 3.0), **more}
    model = VallE(VallEConfig(K, V, 16, 2, **settings)).eval()
    for name, parameter in model.named_parameters():  # what starts at zero must work when it no longer is
        if "norm" in name and "rest" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def codes(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(0, V, (K, length), generator=generator) for length in lengths]


def frames(rows: list[torch.Tensor], prompt: list[int], level: list[int]) -> Frames:
    joined = torch.stack([padded([row[k] for row in rows]) for k in range(K)], dim=1)
    return Frames(joined, torch.tensor(prompt), torch.tensor(level))


@torch.no_grad()
@pytest.mark.parametrize(("kv_heads", "at_once"), list(itertools.product([None, 1, 2], [None, 1])))
def test_cached_pieces_give_the_logits_of_the_whole(kv_heads: int | None, at_once: int | None) -> None:
    """[2, 3: the prefix breaks the cache; a single query sees the first key only]"""
    stage = tiny(kv_heads=kv_heads).first
    text, first = padded(TEXTS[:2]), padded([row[0] for row in codes(6, 6)])
    whole = stage([text, first])[-1]
    cache = stage.cache(2, [text.shape[1], first.shape[1]], at_once)
    parts = [stage([text, first[:, :2]], None, cache)[-1]]
    parts += [stage.more(first[:, step : step + 1], cache) for step in range(2, 6)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_row_of_a_padded_batch_gets_the_logits_it_gets_alone() -> None:
    """[7: padding is seen]"""
    model, rows = tiny(), codes(5, 8, 6)
    asked = ([2, 0, 3], [1, 3, 2])
    spoken, found = model(padded(TEXTS), padded([row[0] for row in rows]), frames(rows, *asked))
    for i, (text, row) in enumerate(zip(TEXTS, rows, strict=True)):
        alone = model(text[None], row[None, 0], frames([row], [asked[0][i]], [asked[1][i]]))
        torch.testing.assert_close(alone[0][-1][0], spoken[-1][i, : row.shape[1] + 1], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone[1][0], found[i, : row.shape[1]], atol=1e-5, rtol=0)


def test_the_text_sees_all_of_itself_and_speech_only_what_was_said() -> None:
    stage = tiny().first
    seen = [table.weight for table in stage.tables]
    text, first = torch.tensor([[0, 1, 2, 3]]), torch.tensor([[0, 1, 2, 3, 4]])
    spoken = stage([text, first])
    early = torch.autograd.grad(spoken[0][0, 1].logsumexp(-1), seen, retain_graph=True)
    assert early[0][3].abs().sum() > 0 and early[1].abs().sum() == 0
    third = torch.autograd.grad(spoken[1][0, 3].logsumexp(-1), seen)  # after the third code
    assert (third[0][:4].abs().sum(1) > 0).all()
    assert (third[1][:3].abs().sum(1) > 0).all() and third[1][3:].abs().sum() == 0


def test_a_codebook_is_found_from_those_before_it_in_all_frames_and_from_the_whole_voice() -> None:
    model, [row] = tiny(), codes(6)
    whole = frames([row], [2], [2])

    def moved(codebook: int, frame: int) -> bool:
        other = whole.codes.clone()
        other[0, codebook, frame] = (other[0, codebook, frame] + 1) % V
        change = model.rest(TEXTS[0][None], whole) - model.rest(TEXTS[0][None], whole._replace(codes=other))
        return bool(change[0].abs().amax(-1).min() > 1e-7)

    with torch.no_grad():
        heard = {(k, t): moved(k, t) for k in range(K) for t in range(6)}
    assert heard == {(k, t): k < 2 or t < 2 for k in range(K) for t in range(6)}
    assert whole.wanted.tolist() == [[-1, -1, *row[2, 2:].tolist()]]


@torch.no_grad()
def test_every_codebook_and_every_code_can_be_found() -> None:
    """[4, 5: neighbouring levels share a row; the last code is unreachable]"""
    model, [row] = tiny(), codes(6)
    for level in range(1, K):
        tables = model.rest.codes.weight.view(K, V, -1)
        assert not torch.equal(tables[level], tables[level - 1])
        found = model.rest(TEXTS[0][None], frames([row], [0], [level]))
        assert found.shape == (1, 6, V) and found.isfinite().all()
    logits = model.first([TEXTS[0][None], row[None, 0]])[-1]
    assert logits.shape == (1, 7, V + 1) and logits.isfinite().all()  # and the end is a class of its own


def test_the_loss_counts_every_code_that_is_asked_for_and_the_true_end_once() -> None:
    model, rows = tiny(), codes(5, 8)
    text, first, asked = padded(TEXTS[:2]), padded([row[0] for row in rows]), frames(rows, [2, 0], [1, 3])
    loss = valle_loss(model, model.config, text, first, asked)
    spoken, found = model(text, first, asked)
    log = spoken[-1].log_softmax(-1)
    mine = [log[i, t, c] for i, row in enumerate(rows) for t, c in enumerate([*row[0].tolist(), V])]
    torch.testing.assert_close(loss.first, -torch.stack(mine).mean())
    log = found.log_softmax(-1)
    mine = [log[0, t, rows[0][1, t]] for t in range(2, 5)] + [log[1, t, rows[1][3, t]] for t in range(8)]
    torch.testing.assert_close(loss.rest, -torch.stack(mine).mean())
    torch.testing.assert_close(loss.mean, (loss.first + loss.rest) / 2)
    assert (asked.wanted[0, 5:] == PADDING).all()


def test_both_networks_learn_and_share_no_weights() -> None:
    model, rows = tiny(), codes(5, 8)
    text, first, asked = padded(TEXTS[:2]), padded([row[0] for row in rows]), frames(rows, [2, 0], [1, 3])
    loss = valle_loss(model, model.config, text, first, asked)
    for part, others in ((loss.first, "rest."), (loss.rest, "first.")):
        model.zero_grad()
        part.backward(retain_graph=True)
        for name, parameter in model.named_parameters():
            moved = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
            assert moved != name.startswith(others) or name == "first.heads.0.0.weight", name


def test_a_configuration_survives_its_file_and_wrong_sizes_are_refused() -> None:
    config = tiny().config
    assert from_dict(VallEConfig, to_dict(config)) == config
    with pytest.raises(ValueError, match="2 or more"):
        VallEConfig(1, V, 16, 1)
    with pytest.raises(ValueError, match="same even width"):
        VallEConfig(2, V, 12, 1, num_heads=4)
    with pytest.raises(ValueError, match="sees its own future"):
        StageConfig("speech", config.first().blocks, 16, 1, num_heads=2, open_prefix=True)
    with pytest.raises(ValueError, match="quickest first"):
        Pace(2.0, 1.0, 3.0)


@torch.no_grad()
def test_codes_that_are_near_begin_near_and_as_large_as_others() -> None:
    plain, begun = tiny(), tiny()
    vectors = torch.randn(K + 1, V, 5, generator=torch.Generator().manual_seed(3))
    vectors[:, 1] = vectors[:, 0] + 1e-3
    begun.begin_with(vectors)
    table = begun.rest.codes.weight.view(K, V, -1)
    read, made = begun.first.tables[1].weight, begun.first.heads[1][0].weight  # type: ignore[index]
    for weight in (*table, read, made[:V]):
        apart = torch.cdist(weight, weight)
        assert apart[0, 1] < 0.01 * apart[0, 2:].min()
    for one, other in zip(begun.parameters(), plain.parameters(), strict=True):
        assert float(one.std()) == pytest.approx(float(other.std()), rel=0.3, abs=1e-6)
    assert torch.equal(made[V], plain.first.heads[1][0].weight[V]), "the end stands for no sound"  # type: ignore[index]
    same = [name for name, weight in begun.named_parameters() if torch.equal(weight, plain.get_parameter(name))]
    assert len(same) == len(list(plain.parameters())) - 3


def test_a_symbol_stands_where_it_is_usually_said() -> None:
    pace = Pace(1.0, 2.0, 4.0, (0.5, 1.0, 3.0))
    text = torch.tensor([[2, 0, 1, PADDING], [1, 1, PADDING, PADDING]])
    assert pace.begins(text)[0, :3].tolist() == [0.0, 6.0, 7.0]
    assert pace.begins(text)[1, :2].tolist() == [0.0, 2.0]
    assert Pace(1.0, 2.0, 4.0).begins(text)[0, :3].tolist() == [0.0, 2.0, 4.0]
    settings = {"symbols": Symbols("phonemes", ("a", "b", "c")), "pace": pace}
    config = VallEConfig(K, V, 16, 1, num_heads=2, **settings)
    assert config.frames(text[0]) == 9.0 and config.limits(text[0]) == (3, 28)
    with pytest.raises(ValueError, match="last some time"):
        Pace(each=(1.0, 0.0))


@torch.no_grad()
def test_both_networks_hear_where_symbols_stand() -> None:
    row = codes(6)
    asked = (padded([TEXTS[0]]), row[0][None, 0], frames(row, [0], [1]))
    plain, same, other = (
        tiny(pace=Pace(1.0, 1.5, 3.0, each))(*asked) for each in ((), (1.0,) * 6, (1.0, 2.0, 3.0, 1.0, 1.0, 0.5))
    )
    for one, two, three in zip((plain[0][-1], plain[1]), (same[0][-1], same[1]), (other[0][-1], other[1]), strict=True):
        assert torch.equal(one, two)
        assert not torch.allclose(one, three, atol=1e-4)


@torch.no_grad()
def test_no_two_codes_are_read_from_one_row() -> None:
    """[4: offsets of N - 1 or N + 1 a level: the last code of one level is the first of the next]"""
    model = tiny()
    heard = list[torch.Tensor]()
    hook = model.rest.codes.register_forward_hook(lambda _, ids, __: heard.append(ids[0]))
    model.rest(TEXTS[0][None], frames([torch.arange(V).expand(K, V)], [V], [1]))
    hook.remove()
    assert torch.cat(heard).flatten().tolist() == list(range(K * V))
    found = model.rest(TEXTS[0][None], frames([torch.arange(V).expand(K, V)], [0], [2]))
    model.rest.codes.weight[2 * V : 3 * V] = 0  # what finds the codes of codebook 2, which is not heard yet
    assert found.any() and not model.rest(TEXTS[0][None], frames([torch.arange(V).expand(K, V)], [0], [2])).any()
