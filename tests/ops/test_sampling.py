import pytest
import torch

from audiogen_cli.ops.sampling import exponential_noise, guide, keep_top_k, keep_top_p, probabilities, sample


def draws(logits: torch.Tensor, count: int, **options: float) -> torch.Tensor:
    noise = exponential_noise((count, len(logits)), torch.Generator().manual_seed(0))
    return sample(logits.expand(count, -1), noise, **options)  # type: ignore[arg-type]


def test_draws_follow_the_softmax_at_the_given_temperature() -> None:
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0])
    drawn = torch.bincount(draws(logits, 20000, temperature=0.7), minlength=4) / 20000
    torch.testing.assert_close(drawn, (logits / 0.7).softmax(-1), atol=0.015, rtol=0)


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = torch.randn(5, 3, 17)
    assert torch.equal(sample(logits, torch.rand(5, 3, 17), temperature=0), logits.argmax(-1))


def test_a_tiny_temperature_approaches_the_likeliest_without_overflow() -> None:
    logits = torch.randn(30, 17)
    noise = exponential_noise((30, 17), torch.Generator().manual_seed(1))
    assert torch.equal(sample(logits, noise, temperature=1e-6), logits.argmax(-1))


def test_top_k_draws_only_from_the_k_likeliest() -> None:
    logits = torch.randn(50)
    assert set(draws(logits, 3000, top_k=5).tolist()) == set(logits.topk(5).indices.tolist())
    assert draws(logits, 50, top_k=1).unique().tolist() == [int(logits.argmax())]


@pytest.mark.parametrize("k", [50, 1000])
def test_a_k_of_the_vocabulary_or_more_keeps_all(k: int) -> None:
    logits = torch.randn(2, 50)
    assert torch.equal(keep_top_k(logits, k), logits)


def test_top_p_keeps_the_fewest_codes_that_reach_p() -> None:
    logits = torch.tensor([0.1, 0.4, 0.3, 0.2]).log()
    kept = [int(keep_top_p(logits, p).isfinite().sum()) for p in (1e-9, 0.35, 0.45, 0.75, 0.95, 1.0)]
    assert kept == [1, 1, 2, 3, 4, 4]
    assert keep_top_p(logits, 0.45).isfinite().tolist() == [False, True, True, False]


def test_top_p_overrides_top_k() -> None:
    logits = torch.zeros(20)
    assert len(draws(logits, 2000, top_k=1, top_p=1.0).unique()) == 20


def test_without_top_k_or_top_p_every_code_can_be_drawn() -> None:
    assert len(draws(torch.zeros(20), 2000).unique()) == 20


@pytest.mark.parametrize("how", [{"temperature": 0.7}, {"top_k": 2}, {"top_p": 0.7}, {"temperature": 0.0}])
def test_the_probabilities_are_those_of_the_draw(how: dict[str, float]) -> None:
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0])
    drawn = torch.bincount(draws(logits, 20000, **how), minlength=4) / 20000
    torch.testing.assert_close(probabilities(logits, **how), drawn, atol=0.015, rtol=0)  # type: ignore[arg-type]


def test_noise_depends_on_the_seed_alone_and_is_never_zero_or_infinite() -> None:
    first, second = (exponential_noise((300, 1000), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.min() > 0
    assert first.isfinite().all()
    assert abs(float(first.mean()) - 1) < 0.02


def test_guidance_of_one_is_the_condition_and_of_zero_its_absence() -> None:
    cond, null = torch.randn(2, 3), torch.randn(2, 3)
    torch.testing.assert_close(guide(cond, null, 1.0), cond)
    assert torch.equal(guide(cond, null, 0.0), null)
    torch.testing.assert_close(guide(cond, null, 3.0), 3 * cond - 2 * null)
