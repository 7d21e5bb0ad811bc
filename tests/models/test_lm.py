"""The model's own properties, and its agreement with AudioCraft (fixtures) and transformers' MusicGen."""

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.config import from_dict, to_dict
from audiogen_cli.models.decoding import Sampling, decode
from audiogen_cli.models.lm import LM, LMConfig
from audiogen_cli.ops import patterns

OPTIONS = list(
    itertools.product(
        ["delay", "parallel", "flatten", "coarse-first"],
        ["cross", "prefix", "none"],
        ["masked", "audiocraft"],
        ["sin", "rope"],
    )
)
CONDITIONED = [option for option in OPTIONS if option[0] == "delay" and option[1] != "none"]


def tiny(pattern="delay", conditioning="cross", padding="masked", positions="sin", **more) -> LM:
    torch.manual_seed(0)
    config = LMConfig(
        **{"num_codebooks": 4, "codebook_size": 20, "dim": 32, "num_layers": 2, "num_heads": 4, "condition_dim": 12}
        | more,
        pattern=pattern,
        conditioning=conditioning,
        padding=padding,
        positions=positions,
    )
    return LM(config).eval()


def text(*lengths: int, pad_to: int = 0) -> Condition:
    torch.manual_seed(1)
    embedding = torch.randn(len(lengths), 16, 12)[:, : max(*lengths, pad_to, 1)]
    return Condition(embedding, torch.arange(embedding.shape[1]) < torch.tensor(lengths)[:, None])


def random_steps(batch: int, length: int) -> torch.Tensor:
    return torch.randint(0, 21, (batch, 4, length), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
@pytest.mark.parametrize("option", OPTIONS)
def test_cached_pieces_give_the_logits_of_the_whole(option: tuple[str, ...]) -> None:
    lm, condition, steps = tiny(*option), text(3, 5, 0), random_steps(3, 11)
    whole = lm(steps, condition)
    assert whole.shape == (3, 4, 11, 20)
    for cuts in ([0, 5, 6, 9, 10, 11], list(range(12)), [0, 10, 11]):
        for rows in (None, 1):
            cache = lm.cache(3, 11, condition, rows)
            parts = [lm(steps[:, :, a:b], condition, cache) for a, b in itertools.pairwise(cuts)]
            torch.testing.assert_close(torch.cat(parts, 2), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("option", OPTIONS)
def test_logits_do_not_hear_later_steps(option: tuple[str, ...]) -> None:
    lm, heard = tiny(*option), []
    lm.emb[0].register_forward_hook(lambda *call: (heard.append(call[2]), call[2].retain_grad())[0])
    logits = lm(random_steps(1, 6), text(3))
    logits[0, :, 3].sum().backward()
    assert (heard[0].grad[0].abs().sum(-1) > 0).tolist() == [True] * 4 + [False] * 2


@torch.no_grad()
@pytest.mark.parametrize("option", CONDITIONED)
def test_null_logits_do_not_depend_on_the_text(option: tuple[str, ...]) -> None:
    lm, steps, condition = tiny(*option), random_steps(2, 5), text(3, 5)
    other = Condition(condition.embedding * 7 + 1, condition.mask)
    assert torch.equal(lm(steps, condition.null()), lm(steps, other.null()))
    assert (lm(steps, condition) - lm(steps, other)).abs().max() > 1e-3
    assert (lm(steps, condition) - lm(steps, condition.null())).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize(("conditioning", "positions"), list(itertools.product(["cross", "prefix"], ["sin", "rope"])))
def test_padding_the_text_changes_nothing_when_it_is_masked(conditioning: str, positions: str) -> None:
    lm, steps = tiny(conditioning=conditioning, positions=positions), random_steps(1, 5)
    expected = lm(steps, text(3))
    torch.testing.assert_close(lm(steps, text(3, pad_to=9)), expected, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("conditioning", ["cross", "prefix"])
def test_without_a_condition_the_model_is_its_null(conditioning: str) -> None:
    lm, steps = tiny(conditioning=conditioning), random_steps(2, 5)
    torch.testing.assert_close(lm(steps), lm(steps, text(3, 5).null()), atol=1e-5, rtol=0)


@torch.no_grad()
def test_audiocraft_padding_takes_its_share_of_the_attention() -> None:
    lm, steps = tiny(padding="audiocraft"), random_steps(1, 5)
    assert (lm(steps, text(3)) - lm(steps, text(3, pad_to=9))).abs().max() > 1e-3
    torch.testing.assert_close(lm(steps), lm(steps, text(3).null()), atol=1e-5, rtol=0)  # zeros: however many


@torch.no_grad()
def test_every_code_has_a_logit_and_the_special_id_has_none() -> None:
    lm = tiny()
    for head in lm.heads:
        head.weight.zero_()
        head.weight[-1] = lm.out_norm.weight
    lm.out_norm.weight.zero_()
    lm.out_norm.bias.fill_(1)
    assert (lm(random_steps(1, 3)).argmax(-1) == lm.config.codebook_size - 1).all()


def test_the_first_loss_is_near_that_of_a_guess() -> None:
    loss = tiny().loss(torch.randint(0, 20, (4, 4, 30)), text(3, 0, 5, 2))
    assert loss.per_codebook.shape == (4,)
    torch.testing.assert_close(loss.mean, loss.per_codebook.mean())
    assert abs(loss.mean.item() - np.log(20)) < 1.0


@torch.no_grad()
@pytest.mark.parametrize("pattern", ["delay", "parallel", "flatten", "coarse-first"])
def test_the_loss_is_the_cross_entropy_of_each_code_given_earlier_steps(pattern: str) -> None:
    lm, codes = tiny(pattern), torch.randint(0, 20, (1, 4, 6))
    step = lm.config.steps(6)
    sequence = torch.cat([torch.full((1, 4, 1), 20), patterns.apply(codes, step, 20)], 2)
    total = torch.zeros(4)
    for k, t in itertools.product(range(4), range(6)):
        logits = lm(sequence[:, :, : step[k, t] + 1])[0, k, -1]
        total[k] -= logits.log_softmax(-1)[codes[0, k, t]]
    torch.testing.assert_close(lm.loss(codes).per_codebook, total / 6, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("pattern", ["delay", "parallel", "flatten"])
def test_the_loss_of_a_padded_clip_is_that_of_the_clip(pattern: str) -> None:
    lm, codes = tiny(pattern), torch.randint(0, 20, (1, 4, 9))
    real = torch.arange(9)[None] < 6
    for junk in (0, 13):
        codes[:, :, 6:] = junk
        padded = lm.loss(codes, text(3), real)
        torch.testing.assert_close(padded, lm.loss(codes[:, :, :6], text(3)), atol=1e-5, rtol=1e-5)


def test_training_lowers_the_loss_and_reaches_every_weight() -> None:
    lm = tiny(dropout=0.1).train()
    codes, condition = torch.randint(0, 20, (4, 4, 8)), text(3, 5, 2, 4)
    optimizer = torch.optim.AdamW(lm.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = lm.loss(codes, condition).mean
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in lm.parameters())


def test_a_config_that_cannot_work_is_refused() -> None:
    with pytest.raises(ValueError, match="even width"):
        tiny(dim=30)
    with pytest.raises(ValueError, match="one number for each"):
        tiny(delays=(0, 1))


# ---- AudioCraft's own numbers

FIXTURES = Path(os.environ.get("AUDIOLM_FIXTURES", Path(__file__).parents[3] / "shared" / "fixtures")) / "audiocraft"
NAMES = {
    "condition_provider.conditioners.description.output_proj.": "condition_proj.",
    "linears.": "heads.",
    "transformer.": "transformer.",
    "self_attn.in_proj_weight": "self_attention.in_proj.weight",
    "cross_attention.in_proj_weight": "cross_attention.in_proj.weight",
    "self_attn.": "self_attention.",
}


def rename(key: str) -> str:
    for theirs, ours in NAMES.items():
        key = key.replace(theirs, ours)
    return key


def load_audiocraft(folder: Path) -> LM:
    package = torch.load(next(folder.glob("models--facebook*/snapshots/*/state_dict.bin")), weights_only=True)
    settings = yaml.safe_load(package["xp.cfg"])
    sizes = settings["transformer_lm"]
    state = {rename(key): value for key, value in package["best_state"].items()}
    config = LMConfig(
        num_codebooks=sizes["n_q"],
        codebook_size=sizes["card"],
        dim=sizes["dim"],
        num_layers=sizes["num_layers"],
        num_heads=sizes["num_heads"],
        hidden_scale=sizes["hidden_scale"],
        delays=tuple(settings["codebooks_pattern"]["delay"]["delays"]),
        condition_dim=state["condition_proj.weight"].shape[1],
        padding="audiocraft",
    )
    lm = LM(config).eval()
    lm.load_state_dict(state)
    return lm


def hear(folder: Path, prompt: str, t5_name: str) -> Condition:
    transformers = pytest.importorskip("transformers")
    t5 = next(folder.glob(f"models--{t5_name}/snapshots/*"))
    tokens = transformers.AutoTokenizer.from_pretrained(t5)([prompt], return_tensors="pt")
    with torch.no_grad():
        embedding = transformers.T5EncoderModel.from_pretrained(t5).eval()(**tokens).last_hidden_state
    return Condition(embedding, tokens["attention_mask"].bool())


@pytest.fixture(params=["audiogen", "musicgen"])
def oracle(request: pytest.FixtureRequest) -> tuple[LM, Condition, dict[str, torch.Tensor], dict]:
    folder = FIXTURES / request.param
    if not folder.is_dir():
        pytest.skip(f"no fixtures in {folder}; set AUDIOLM_FIXTURES")
    meta = json.loads((folder / "meta.json").read_text())
    expected = {key: torch.from_numpy(value) for key, value in np.load(folder / "expected.npz").items()}
    return load_audiocraft(folder), hear(folder, meta["text"], meta["t5"]), expected, meta


@torch.no_grad()
def test_teacher_forced_logits_are_those_of_audiocraft(oracle) -> None:
    lm, condition, expected, _ = oracle
    step = lm.config.steps(expected["teacher"].shape[2])
    target = patterns.apply(expected["teacher"], step, lm.config.special)
    steps = torch.nn.functional.pad(target, (1, -1), value=lm.config.special)
    logits = lm(steps, condition)
    logits = logits.gather(2, step[None, :, :, None].expand(1, -1, -1, logits.shape[3]))  # back to frames: [1, K, T, V]
    valid = expected["mask"]
    torch.testing.assert_close(logits[valid], expected["logits"][valid], atol=1e-4, rtol=0)


@torch.no_grad()
def test_guided_greedy_codes_are_those_of_audiocraft(oracle) -> None:
    lm, condition, expected, meta = oracle
    loop = decode(lm, condition, expected["tokens"].shape[2], [0], Sampling(temperature=0, guidance=meta["cfg_coef"]))
    while True:
        try:
            next(loop)
        except StopIteration as stop:
            assert torch.equal(stop.value, expected["tokens"])
            break


# ---- transformers' MusicGen, random weights


@torch.no_grad()
@pytest.mark.parametrize("num_texts", [1, 2])
def test_logits_are_those_of_transformers_musicgen(num_texts: int) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "ffn_dim": 128}
    config = transformers.MusicgenDecoderConfig(
        vocab_size=20, num_codebooks=4, pad_token_id=20, bos_token_id=20, dropout=0.0, initializer_range=0.2, **sizes
    )
    theirs = transformers.MusicgenForCausalLM(config).eval()
    lm = tiny(padding="audiocraft", condition_dim=32)
    lm.load_state_dict(from_transformers(theirs.state_dict(), lm.state_dict()))
    heard = torch.randn(num_texts, 5, 32)  # no padding: the one case where transformers and AudioCraft agree
    lm.condition_proj.weight.copy_(torch.eye(32))
    lm.condition_proj.bias.zero_()
    steps = random_steps(num_texts, 7)
    logits = theirs(steps.flatten(0, 1), encoder_hidden_states=heard).logits.view(num_texts, 4, 7, 20)
    condition = Condition(heard, torch.ones(num_texts, 5).bool())
    torch.testing.assert_close(lm(steps, condition), logits, atol=1e-4, rtol=0)


def from_transformers(theirs: dict[str, torch.Tensor], ours: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    state = {key: value for key, value in ours.items() if key.startswith("condition_proj")}
    for k in range(4):
        state[f"emb.{k}.weight"] = theirs[f"model.decoder.embed_tokens.{k}.weight"]
        state[f"heads.{k}.weight"] = theirs[f"lm_heads.{k}.weight"]
    norms = {"norm1": "self_attn_layer_norm", "norm_cross": "encoder_attn_layer_norm", "norm2": "final_layer_norm"}
    for i in range(2):
        to, of = f"transformer.layers.{i}.", f"model.decoder.layers.{i}."
        for our, their in {"self_attention": "self_attn", "cross_attention": "encoder_attn"}.items():
            parts = [theirs[f"{of}{their}.{part}_proj.weight"] for part in "qkv"]
            state[f"{to}{our}.in_proj.weight"] = torch.cat(parts)
            state[f"{to}{our}.out_proj.weight"] = theirs[f"{of}{their}.out_proj.weight"]
        for our, their in {"linear1": "fc1", "linear2": "fc2"}.items():
            state[f"{to}{our}.weight"] = theirs[f"{of}{their}.weight"]
        for our, their in norms.items():
            state |= {f"{to}{our}.{part}": theirs[f"{of}{their}.{part}"] for part in ("weight", "bias")}
    return state | {f"out_norm.{part}": theirs[f"model.decoder.layer_norm.{part}"] for part in ("weight", "bias")}


def test_codes_that_are_near_begin_near_and_nothing_else_changes() -> None:
    model, before = tiny(), tiny()
    vectors = torch.randn(5, 20, 6)
    vectors[0, 3] = vectors[0, 4] + 0.01
    model.begin_with(vectors)
    for weight, old in ((model.emb[0].weight[:20], before.emb[0].weight[:20]), (model.heads[0].weight,) * 2):
        distance = torch.cdist(weight, weight)
        assert distance[3, 4] < 0.05 * distance[3, 5]
        assert 0.5 < weight.std() / old.std() < 2
    assert not torch.allclose(model.emb[0].weight[:20], model.emb[1].weight[:20])
    assert torch.equal(model.emb[0].weight[20], before.emb[0].weight[20])
    assert torch.equal(model.transformer.layers[0].linear1.weight, before.transformer.layers[0].linear1.weight)


MELODY = LMConfig(2, 8, 16, 1, 2, conditioning="prefix", padding="audiocraft", melody_dim=12, melody_frames=5)


def test_a_config_of_before_melodies_were_heard_has_the_published_window() -> None:
    data = to_dict(MELODY)
    del data["melody_fft"]
    assert from_dict(LMConfig, data) == MELODY and MELODY.melody_fft == 16_384


@torch.no_grad()
def test_no_melody_is_that_of_silence_to_the_bit_and_any_other_is_not() -> None:
    torch.manual_seed(0)
    lm, steps = LM(MELODY).eval(), torch.randint(0, 8, (2, 2, 4))
    embedding, mask = torch.randn(2, 3, 768), torch.ones(2, 3, dtype=torch.bool)
    none = lm(steps, Condition(embedding, mask))
    silence = torch.zeros(2, 5, dtype=torch.int64)
    assert torch.equal(lm(steps, Condition(embedding, mask, silence)), none)
    for frame in range(5):
        melody = silence.clone()
        melody[1, frame] = 7
        found = lm(steps, Condition(embedding, mask, melody))
        assert torch.equal(found[0], none[0]) and not torch.equal(found[1], none[1])
