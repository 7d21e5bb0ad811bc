"""From noise to sound, with a flow whose way is known and with a random one."""

import dataclasses

import pytest
import torch

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.errors import InputError
from audiogen_cli.models.decoding import Sampling, finish
from audiogen_cli.models.flow import Flow, FlowConfig
from audiogen_cli.models.flow_decoding import answers, guided, integrate

T, D, TEXT = 9, 6, 12


@pytest.fixture
def flow() -> Flow:
    torch.manual_seed(0)
    made = Flow(FlowConfig(D, 16, 2, 2, condition_dim=TEXT)).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    made.fit(torch.randn(200, D) * torch.arange(1, D + 1) + 3.0)
    return made


def texts(*lengths: int) -> Condition:
    embedding = torch.randn(len(lengths), max(*lengths, 1), TEXT, generator=torch.Generator().manual_seed(1))
    return Condition(embedding, torch.arange(embedding.shape[1]) < torch.tensor(lengths)[:, None])


def made(
    flow: Flow, condition: Condition, seeds: list[int], prompt: torch.Tensor | None = None, lanes: int = 1, **more
) -> torch.Tensor:
    return finish(integrate(flow, condition, T, seeds, Sampling(**{"steps": 4, **more}), prompt, lanes=lanes))


def test_a_straight_way_is_gone_to_its_end_in_any_number_of_steps(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    target = torch.randn(1, T, D)

    def velocity(frames, time, condition, known=None, memory=None):
        return (target - frames) / (1 - time)[:, None, None]

    monkeypatch.setattr(flow, "forward", velocity)
    for steps in (1, 5, 32):
        found = made(flow, texts(3), [0], guidance=1.0, steps=steps)
        torch.testing.assert_close(found, flow.coloured(target), atol=1e-4, rtol=1e-4)


def test_an_item_is_the_same_alone_and_in_any_batch(flow: Flow) -> None:
    condition, prompt = texts(3, 40, 3), torch.randn(3, D, 4)
    for own in (None, prompt):
        together = made(flow, condition, [4, 5, 6], own)
        for row in range(3):
            longer = Condition(
                torch.nn.functional.pad(condition.embedding[row : row + 1], (0, 0, 0, 20)),
                torch.nn.functional.pad(condition.mask[row : row + 1], (0, 20)),
            )
            alone = made(flow, longer, [4 + row], None if own is None else own[row : row + 1])
            assert torch.equal(alone[0], together[row])


def test_items_of_one_product_are_the_same_alone_and_in_any_batch(flow: Flow) -> None:
    condition, seeds = Condition.cat([texts(40)] * 3 + [texts(3)] * 6), list(range(9))
    together = made(flow, condition, seeds, None, 3)
    for first in (0, 3, 6):
        rows = slice(first, first + 3)
        own = Condition(condition.embedding[rows], condition.mask[rows])
        assert torch.equal(made(flow, own, seeds[rows], None, 3), together[rows])


def test_items_made_together_are_those_made_one_by_one_but_for_rounding(flow: Flow) -> None:
    condition, sketch = texts(3, 40, 3, 5, 7), torch.randn(5, D, T)
    for over in (None, sketch):
        one, four = (
            finish(integrate(flow, condition, T, range(5), Sampling(steps=4), None, over, lanes=lanes))
            for lanes in (1, 4)
        )
        torch.testing.assert_close(four, one, atol=1e-4, rtol=1e-4)


def test_seed_text_guidance_temperature_and_steps_matter(flow: Flow) -> None:
    condition = texts(3)
    plain = made(flow, condition, [0])
    assert torch.equal(plain, made(flow, condition, [0]))
    others = [made(flow, condition, [1]), made(flow, texts(5), [0])]
    others += [made(flow, condition, [0], **how) for how in ({"guidance": 1.0}, {"temperature": 0.5}, {"steps": 5})]
    assert all((other - plain).abs().max() > 1e-3 for other in others)


def test_guidance_of_one_hears_the_text_and_of_none_hears_nothing(flow: Flow) -> None:
    assert torch.equal(made(flow, texts(3), [0], guidance=0.0), made(flow, texts(5), [0], guidance=0.0))
    unguided = made(flow, texts(3).null(), [0], guidance=1.0)
    torch.testing.assert_close(made(flow, texts(3), [0], guidance=0.0), unguided, atol=1e-4, rtol=1e-4)


def test_a_prompt_stays_and_is_heard(flow: Flow) -> None:
    prompt = torch.randn(1, D, 4) * 5
    found, other = made(flow, texts(3), [0], prompt), made(flow, texts(3), [0], prompt + 1)
    assert torch.equal(found[:, :, :4], prompt)
    assert (found - other)[:, :, 4:].abs().max() > 1e-3
    assert torch.equal(made(flow, texts(3), [0], torch.randn(1, D, T))[:, :, :0], found[:, :, :0])
    with pytest.raises(InputError, match="more than the 9 asked for"):
        made(flow, texts(3), [0], torch.randn(1, D, T + 1))


def test_a_sketch_is_painted_over_from_the_time_that_the_configuration_says(flow: Flow) -> None:
    condition, sketch = texts(3, 5), torch.randn(2, D, T) * 4
    other = sketch + 1

    def painted(sketched: float, over: torch.Tensor | None, **more) -> torch.Tensor:
        flow.config = dataclasses.replace(flow.config, sketched=sketched)
        return finish(integrate(flow, condition, T, [0, 1], Sampling(steps=4), sketch=over, **more))

    torch.testing.assert_close(painted(1.0, sketch), sketch, atol=1e-4, rtol=1e-4)
    flow.config = dataclasses.replace(flow.config, emphasis=1.0)
    torch.testing.assert_close(painted(0.0, sketch), painted(0.0, None))
    half = painted(0.5, sketch)
    assert not torch.equal(half, painted(0.5, other)) and not torch.equal(half, painted(0.25, sketch))
    prompt = torch.randn(2, D, 4)
    assert torch.equal(painted(0.5, sketch, prompt=prompt)[:, :, :4], prompt)
    assert len(list(integrate(flow, condition, T, [0, 1], Sampling(steps=4), sketch=sketch))) == 2 * 2


def test_progress_goes_from_the_first_step_to_all_frames(flow: Flow) -> None:
    steps = list(integrate(flow, texts(3, 4), T, [0, 1], Sampling(steps=5)))
    assert len(steps) == 10 and steps == sorted(steps) and steps[-1] == T
    steps = list(integrate(flow, texts(3, 4, 5), T, [0, 1, 2], Sampling(steps=5), lanes=2))
    assert len(steps) == 10 and steps == sorted(steps) and steps[-1] == T


def test_guidance_adds_nothing_along_where_a_step_would_end() -> None:
    frames, velocity, null = torch.randn(3, 2, 7, 5, generator=torch.Generator().manual_seed(0)).unbind(0)
    push = guided(frames, velocity, null, 0.25, 4.0) - velocity
    for row in range(2):
        end, own = frames[row] + velocity[row] * 0.75, push[row]
        assert abs(float((own * end).sum())) < 1e-4 and float(own.norm()) > 1
        along = velocity[row] - null[row] - own / 3
        torch.testing.assert_close(along, end * ((along * end).sum() / end.square().sum()))
    for guidance, wanted in ((0.0, null), (1.0, velocity), (0.5, (velocity + null) / 2)):
        torch.testing.assert_close(guided(frames, velocity, null, 0.25, guidance), wanted)


def test_painting_is_guided_with_emphasis(flow: Flow) -> None:
    def painted(emphasis: float, guidance: float, sketch: torch.Tensor | None) -> torch.Tensor:
        flow.config = dataclasses.replace(flow.config, emphasis=emphasis)
        return finish(integrate(flow, texts(3), T, [0], Sampling(steps=4, guidance=guidance), None, sketch))

    sketch = torch.randn(1, D, T)
    assert torch.equal(painted(2.0, 3.0, sketch), painted(1.0, 5.0, sketch))
    assert torch.equal(painted(2.0, 3.0, None), painted(1.0, 3.0, None))


def test_an_answer_is_what_the_text_brings_nearer(flow: Flow) -> None:
    condition, latents = texts(5), torch.randn(3, D, T)
    frames, null = flow.whitened(latents), condition.null()
    noise = torch.randn(1, T, D, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1)
    with torch.no_grad():
        told, untold = (
            (flow((noise + frames) / 2, torch.full((3,), 0.5), heard) - (frames - noise)).square().mean(dim=(1, 2))
            for heard in (Condition.cat([condition] * 3), Condition.cat([null] * 3))
        )
    gains = untold - told
    assert answers(flow, latents, condition) == pytest.approx(gains.tolist(), abs=1e-4)
    many = answers(flow, torch.cat([latents] * 7), condition)
    assert many == pytest.approx(gains.tolist() * 7, abs=1e-4)
    assert answers(flow, latents, condition) == answers(flow, latents, condition)
    assert answers(flow, latents, null) == pytest.approx([0, 0, 0], abs=1e-6)
