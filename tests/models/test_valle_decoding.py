import torch

from audiogen_cli.conditioners.symbols import Symbols
from audiogen_cli.models.decoding import Sampling, finish
from audiogen_cli.models.valle import Frames, Pace, VallE, VallEConfig, valle_loss
from audiogen_cli.models.valle_decoding import Made, Utterance, speak
from audiogen_cli.ops.ids import padded

K, V = 3, 7


def tiny(dim: int = 16) -> VallE:
    torch.manual_seed(0)
    return VallE(VallEConfig(K, V, dim, 2, num_heads=2, symbols=Symbols(), pace=Pace(1.0, 1.5, 3.0))).eval()


def codes(length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, V, (K, length), generator=torch.Generator().manual_seed(seed))


def said(model: VallE, *utterances: Utterance, **more) -> list[Made]:
    return finish(speak(model, utterances, Sampling(**{"top_k": 0, **more})))


def test_an_utterance_is_the_same_alone_and_in_any_batch() -> None:
    model, text = tiny(), Symbols()("ab cd")
    several = [
        Utterance(text, codes(4), 12, 1),
        Utterance(text, codes(4, 1), 12, 2, transcribed=False),
        Utterance(Symbols()("hello there"), codes(0), 9, 3),
        Utterance(text, codes(4), 12, 4),
    ]
    together = said(model, *several)
    for utterance, made in zip(several, together, strict=True):
        [alone] = said(model, utterance)
        assert torch.equal(alone.codes, made.codes) and alone.ended == made.ended
        [again] = said(model, utterance)
        assert torch.equal(alone.codes, again.codes)
        assert alone.codes.shape[0] == K and 0 < alone.codes.shape[1] <= utterance.frames
    assert not torch.equal(together[0].codes, together[3].codes)


def test_the_cheap_way_is_the_slow_way() -> None:
    """Through the cache, greedily: the first codebook is the argmax over whole sequences, and then every other one."""
    model, voice, text = tiny(), codes(3), Symbols()("abc")
    with torch.no_grad():
        model.first.heads[-1][0].weight[V] = 0  # type: ignore[index]
        model.first.out_norm.bias.copy_(model.first.heads[-1][0].weight[:V].sum(0))  # type: ignore[index]
    [made] = said(model, Utterance(text, voice, 6, 0), temperature=0.0)
    found = torch.cat([voice, torch.zeros(K, made.codes.shape[1], dtype=torch.long)], 1)
    with torch.no_grad():
        for step in range(3, found.shape[1]):
            found[0, step] = model.first([text[None], found[None, 0, :step]])[-1][0, -1, :V].argmax()
        for level in range(1, K):
            frames = Frames(found[None], torch.tensor([3]), torch.tensor([level]))
            found[level, 3:] = model.rest(text[None], frames)[0, 3:].argmax(-1)
    assert torch.equal(found[:, 3:], made.codes)


def test_whether_it_came_to_its_end_is_a_result() -> None:
    model, text = tiny(), Symbols()("abc")
    weight = model.first.heads[-1][0].weight  # type: ignore[index]
    with torch.no_grad():
        model.first.out_norm.weight.zero_()
        model.first.out_norm.bias.fill_(1)
        weight[V] = 50.0
        [ends] = said(model, Utterance(text, codes(2), 8, 0))
        weight[V] = -50.0
        [never] = said(model, Utterance(text, codes(2), 8, 0))
    assert ends.ended and ends.codes.shape == (K, 1)  # something is said before the end
    assert not never.ended and never.codes.shape == (K, 8)


def test_a_loop_is_left() -> None:
    """Of a model that is all but sure of one code, the draws repeat no more than VALL-E 2 lets them."""
    model, text = tiny(), Symbols()("abc")
    with torch.no_grad():
        model.first.out_norm.weight.zero_()
        model.first.out_norm.bias.fill_(1)
        weight = model.first.heads[-1][0].weight  # type: ignore[index]
        weight.zero_()
        weight[V], weight[2] = -50.0, 2.5 / weight.shape[1]  # one code has half of the probability
    [nucleus] = said(model, Utterance(text, codes(0), 60, 0), top_p=0.3)
    assert len(nucleus.codes[0].unique()) > 3
    [greedy] = said(model, Utterance(text, codes(0), 60, 0), temperature=0.0)
    assert greedy.codes[0].unique().tolist() == [2]


def test_what_was_learnt_by_heart_is_said() -> None:
    """Both networks together give back known codes for a text, with and without the beginning as a prompt."""
    model, table = tiny(32).train(), Symbols()
    texts, rows = [table("one two"), table("three")], [codes(14, 1), codes(9, 2)]
    text, first = padded(texts), padded([row[0] for row in rows])
    whole = torch.stack([padded([row[k] for row in rows]) for k in range(K)], dim=1)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3, (0.9, 0.95))
    for step in range(240):
        frames = Frames(whole, torch.tensor([4, 4] if step % 2 else [0, 0]), torch.tensor([1 + step % 2, 2 - step % 2]))
        if step // 2 % 2:
            frames = frames._replace(level=3 - frames.level)
        optimizer.zero_grad()
        loss = valle_loss(model, model.config, text, first, frames)
        loss.mean.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    for text, row, prompt in zip(texts * 2, rows * 2, (0, 0, 4, 4), strict=True):
        [made] = said(model, Utterance(text, row[:, :prompt], 20, 0), temperature=0.0)
        assert made.ended and torch.equal(made.codes, row[:, prompt:])
