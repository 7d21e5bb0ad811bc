from dataclasses import replace

import pytest
import torch

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.errors import InputError
from audiogen_cli.models import decoding
from audiogen_cli.models.decoding import Sampling, decode
from audiogen_cli.models.lm import LM, LMConfig
from audiogen_cli.ops import patterns

PATTERNS = sorted(patterns.PATTERNS)
OPTIONS = [{"pattern": pattern} for pattern in PATTERNS] + [
    {"conditioning": "prefix"},
    {"conditioning": "prefix", "padding": "audiocraft"},
    {"padding": "audiocraft"},
    {"positions": "rope"},
    {"delays": (0, 0, 1, 1)},
]
GREEDY = Sampling(temperature=0, guidance=3.0)


def tiny(**options) -> LM:
    """Loud heads, so that the codes depend on everything."""
    torch.manual_seed(0)
    sizes = {"num_codebooks": 4, "codebook_size": 20, "dim": 32, "num_layers": 2, "num_heads": 4, "condition_dim": 12}
    lm = LM(LMConfig(**sizes | options)).eval()
    with torch.no_grad():
        for head in lm.heads:
            head.weight.mul_(3)
    return lm


def text(*lengths: int, width: int = 12) -> Condition:
    torch.manual_seed(1)
    embedding = 3 * torch.randn(len(lengths), 50, width)[:, : max(*lengths, 1)]
    return Condition(embedding, torch.arange(embedding.shape[1]) < torch.tensor(lengths)[:, None])


def rows(condition: Condition | None, index: list[int]) -> Condition | None:
    return condition and Condition(condition.embedding[index], condition.mask[index])


def run(*args, **options) -> torch.Tensor:
    return listen(*args, **options)[0]


def listen(*args, **options) -> tuple[torch.Tensor, list[int]]:
    loop, told = decode(*args, **options), []
    while True:
        try:
            told.append(next(loop))
        except StopIteration as stop:
            return stop.value, told


@torch.no_grad()
def slowly(lm: LM, condition: Condition, num_frames: int, guidance: float, prompt: torch.Tensor) -> torch.Tensor:
    """Greedy decoding of one item, the naive way: no cache, two separate passes, the whole sequence every time."""
    step, special = lm.config.steps(num_frames), lm.config.special
    known = prompt.shape[2]
    sequence = torch.full((1, lm.config.num_codebooks, patterns.num_steps(step) + 1), special)
    for s in range(1, sequence.shape[2]):
        cond, null = (lm(sequence[:, :, :s], c)[0, :, -1] for c in (condition, condition.null()))
        best = (null + guidance * (cond - null)).argmax(-1)
        for k, t in (step == s - 1).nonzero().tolist():
            sequence[0, k, s] = prompt[0, k, t] if t < known else best[k]
    return patterns.revert(sequence[:, :, 1:], step)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("prompt_frames", [0, 3])
def test_greedy_codes_are_those_of_the_slow_loop(options: dict, prompt_frames: int) -> None:
    lm, condition = tiny(**options), text(5)
    prompt = torch.randint(0, 20, (1, 4, prompt_frames))
    expected = slowly(lm, condition, 7, 3.0, prompt)
    assert torch.equal(run(lm, condition, 7, [0], GREEDY, prompt), expected)
    assert len(expected.unique()) > 3


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("prompt_frames", [0, 1, 4, 6])
def test_the_prompt_is_kept_and_every_code_is_one_of_the_codebook(pattern: str, prompt_frames: int) -> None:
    lm, prompt = tiny(pattern=pattern), torch.randint(0, 20, (2, 4, prompt_frames))
    codes = run(lm, text(3, 5), 6, [1, 2], Sampling(temperature=3.0, top_k=0), prompt)
    assert codes.shape == (2, 4, 6)
    assert codes.dtype == torch.int64
    assert torch.equal(codes[:, :, :prompt_frames], prompt)
    assert codes.min() >= 0
    assert codes.max() < 20


def test_a_prompt_longer_than_the_result_is_refused() -> None:
    with pytest.raises(InputError, match="ask for more"):
        run(tiny(), None, 3, [0], prompt=torch.zeros(1, 4, 4, dtype=torch.int64))


def test_the_last_code_is_drawn_and_the_special_id_is_not() -> None:
    lm = tiny(codebook_size=3)
    assert run(lm, None, 60, [0], Sampling(temperature=10.0, top_k=0)).unique().tolist() == [0, 1, 2]


def test_top_k_of_one_is_the_likeliest() -> None:
    lm, condition = tiny(), text(5)
    drawn = run(lm, condition, 6, [3], Sampling(top_k=1))
    assert torch.equal(drawn, run(lm, condition, 6, [9], GREEDY))


def test_the_same_seed_gives_the_same_codes_and_another_seed_others() -> None:
    lm, condition = tiny(), text(5, 5)
    condition = rows(condition, [0, 0])
    first, again = run(lm, condition, 8, [7, 8]), run(lm, condition, 8, [7, 8])
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(run(lm, condition, 8, [7, 7])[1], first[0])


def test_drawing_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    lm_state = torch.get_rng_state()
    lm = tiny()
    torch.set_rng_state(lm_state)
    run(lm, None, 4, [1])
    assert torch.equal(torch.rand(1), expected)


def test_guidance_of_one_skips_the_null_half_and_is_conditional_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, condition, batches = tiny(), text(5), []
    lm.transformer.register_forward_hook(lambda module, inputs, output: batches.append(len(output)))
    plain = run(lm, condition, 6, [0], Sampling(guidance=1.0))
    assert set(batches) == {1}
    nearly = run(lm, condition, 6, [0], Sampling(guidance=1.0 + 1e-7))
    assert batches[-1] == 2
    assert torch.equal(plain, nearly)
    assert not torch.equal(plain, run(lm, condition, 6, [0], Sampling(guidance=3.0)))


def test_guidance_of_zero_and_no_condition_are_both_unconditional() -> None:
    lm = tiny()
    zero = run(lm, text(5), 6, [0], Sampling(guidance=0.0))
    assert torch.equal(zero, run(lm, None, 6, [0]))
    assert torch.equal(zero, run(lm, text(5).null(), 6, [0]))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("batch", [1, 11])
def test_progress_rises_to_the_number_of_frames(pattern: str, batch: int) -> None:
    told = listen(tiny(pattern=pattern, num_layers=1), None, 5, list(range(batch)))[1]
    assert told == sorted(told)
    assert told[-1] == 5


def test_nothing_to_do_is_done_at_once() -> None:
    lm = tiny()
    assert run(lm, None, 0, [0]).shape == (1, 4, 0)
    prompt = torch.ones(1, 4, 3, dtype=torch.int64)
    codes, told = listen(lm, None, 3, [0], prompt=prompt)
    assert torch.equal(codes, prompt)
    assert told == []


BATCHES = ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [1, 3], [2, 0, 4])
BIG = {"dim": 384, "num_layers": 1, "num_heads": 6, "codebook_size": 1024, "condition_dim": 64}
SHAPES = [
    (BIG, 1),
    (BIG, 4),
    (BIG | {"dim": 512, "num_heads": 8}, 1),
    (BIG | {"padding": "audiocraft"}, 1),
    (BIG | {"conditioning": "prefix"}, 1),
    ({"dim": 36, "num_heads": 3, "positions": "rope"}, 1),
    ({"pattern": "flatten"}, 2),
]


@pytest.mark.parametrize(("options", "lanes"), SHAPES)
@pytest.mark.parametrize("prompt_frames", [0, 3])
def test_an_item_has_the_same_logits_to_the_bit_alone_and_in_any_slot_of_any_batch(
    options: dict, lanes: int, prompt_frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = tiny(**options)
    condition = text(6, 45, 0, 12, 6, width=lm.config.condition_dim)  # two padded lengths, and nothing at all
    prompt = torch.randint(0, 20, (5, 4, prompt_frames))
    seen: dict[int, list[torch.Tensor]] = {}

    def spy(logits: torch.Tensor, generators: list[torch.Generator], sampling: Sampling) -> torch.Tensor:
        for row, generator in zip(logits, generators, strict=True):
            seen.setdefault(generator.initial_seed(), []).append(row)
        return draw(logits, generators, sampling)

    def one(index: list[int]) -> dict[int, list[torch.Tensor]]:
        seen.clear()
        codes = run(lm, rows(condition, index), 8, [100 + i for i in index], prompt=prompt[index], lanes=lanes)
        heard = {i: seen[100 + i] for i in index}
        copies = {i: len(heard[i]) // (len(lm.config.steps(8).unique()) - first) for i in index}
        return {i: [codes[slot], *heard[i][:: copies[i]]] for slot, i in enumerate(index)}

    draw = decoding._draw
    first = int(lm.config.steps(8)[:, prompt_frames:].min())
    monkeypatch.setattr(decoding, "_draw", spy)
    alone = {i: one([i])[i] for i in range(5)}
    for index in BATCHES:
        together = one(index)
        for i in index:
            same = [torch.equal(ours, theirs) for ours, theirs in zip(together[i], alone[i], strict=True)]
            assert all(same), f"item {i} of {index}"


def test_the_length_of_a_neighbours_text_does_not_matter() -> None:
    lm, condition = tiny(), text(4, 50)
    short = Condition(condition.embedding[:1, :4], condition.mask[:1, :4])
    assert torch.equal(run(lm, condition, 8, [0, 1])[0], run(lm, short, 8, [0])[0])


@pytest.mark.parametrize("lanes", [1, 2])
def test_each_item_hears_its_own_melody_and_its_null_hears_none(lanes: int) -> None:
    lm = tiny(conditioning="prefix", padding="audiocraft", melody_dim=12, melody_frames=5)
    with torch.no_grad():
        lm.melody_proj.weight.mul_(3)
    melodies = torch.randint(1, 12, (4, 5), generator=torch.Generator().manual_seed(2))
    melodies[3] = 0
    condition = replace(rows(text(4, 6), [0, 1, 0, 0]), melody=melodies)
    together = run(lm, condition, 7, [0] * 4, GREEDY, lanes=lanes)
    for i, length in enumerate((4, 6, 4, 4)):
        alone = Condition(condition.embedding[[i], :length], condition.mask[[i], :length], melodies[[i]])
        assert torch.equal(together[[i]], slowly(lm, alone, 7, 3.0, torch.zeros(1, 4, 0, dtype=torch.int64)))
    assert not torch.equal(together[0], together[2]) and not torch.equal(together[0], together[3])


def test_more_items_than_run_together_are_all_decoded() -> None:
    lm = tiny()
    condition = rows(text(3, 40), [0, 1] * 10)
    codes = run(lm, condition, 4, list(range(20)))
    assert torch.equal(codes[17], run(lm, rows(condition, [17]), 4, [17])[0])


def test_codes_can_be_trained_on() -> None:
    lm = tiny()
    lm.loss(run(lm, None, 4, [0])).mean.backward()


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 1.5}])
def test_settings_without_a_meaning_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="change them"):
        Sampling(**wrong)
