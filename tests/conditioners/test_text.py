"""The text conditioner against transformers' own encoder on a tiny random T5; the bundled encoder's sense of words."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import T5Config as TransformersConfig
from transformers import T5EncoderModel, T5ForConditionalGeneration

from audiogen_cli.conditioners.t5 import T5Config
from audiogen_cli.conditioners.text import MAX_TOKENS, Quantized, T5Conditioner, save_int8
from audiogen_cli.errors import CheckpointError, InputError

WORDS = ["dog", "barking", "in", "rain", "a", "cat", "piano"]
PROMPTS = ["dog barking in rain", "a cat", "piano", "a dog in a piano in rain"]
TINY: dict[str, Any] = {"vocab_size": 32, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4}
BUNDLED = Path(__file__).parents[2] / "weights" / "sounds-small" / "text"


def write_tokenizer(folder: Path) -> None:
    names = ["<pad>", "</s>", "<unk>", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.enable_padding(length=50)  # some published tokenizers pad and truncate by themselves
    tokenizer.enable_truncation(max_length=3)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_hub_folder(folder: Path, whole: bool = False, shard: str = "5GB", **changes: Any) -> T5EncoderModel:
    """A folder as transformers writes it, and the encoder in it. `whole`: with a decoder, as t5-large is published."""
    torch.manual_seed(0)
    config = TransformersConfig(**{**TINY, "decoder_start_token_id": 0, "initializer_factor": 5.0, **changes})
    model = (T5ForConditionalGeneration if whole else T5EncoderModel)(config).eval()
    model.save_pretrained(folder, max_shard_size=shard)
    write_tokenizer(folder)
    if not whole:
        return model
    encoder = T5EncoderModel(config).eval()
    encoder.load_state_dict(model.state_dict(), strict=False)
    return encoder


@torch.no_grad()
def reference(encoder: T5EncoderModel, conditioner: T5Conditioner, prompt: str) -> torch.Tensor:
    tokens = torch.tensor([conditioner.tokens(prompt)])
    return encoder(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[0]


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    write_hub_folder(tmp_path)
    return tmp_path


@pytest.mark.parametrize("activation", ["relu", "gated-gelu"])
@pytest.mark.parametrize(("whole", "shard"), [(False, "5GB"), (True, "5GB"), (True, "6KB")])
def test_a_hub_folder_gives_what_transformers_gives(tmp_path: Path, activation: str, whole: bool, shard: str) -> None:
    encoder = write_hub_folder(tmp_path, whole, shard, feed_forward_proj=activation)
    assert (tmp_path / "model.safetensors").exists() == (shard == "5GB")
    conditioner = T5Conditioner.load(tmp_path)
    condition = conditioner(PROMPTS)
    assert conditioner.dim == 16 and condition.embedding.dtype == torch.float32
    for row, prompt in enumerate(PROMPTS):
        found = condition.embedding[row][condition.mask[row]]
        torch.testing.assert_close(found, reference(encoder, conditioner, prompt), rtol=1e-5, atol=1e-5)


def test_a_batch_equals_its_prompts_one_by_one_to_the_bit(hub: Path) -> None:
    together = T5Conditioner.load(hub)(PROMPTS)
    for row, prompt in enumerate(PROMPTS):
        alone = T5Conditioner.load(hub)([prompt])
        length = alone.embedding.shape[1]
        assert torch.equal(together.embedding[row, :length], alone.embedding[0]) and alone.mask.all()
        assert not together.embedding[row, length:].any() and not together.mask[row, length:].any()


@pytest.mark.parametrize("nothing", [None, "", "  \n"])
def test_no_prompt_is_a_masked_row_of_zeros(hub: Path, nothing: str | None) -> None:
    conditioner = T5Conditioner.load(hub)
    mixed, alone = conditioner([nothing, "dog"]), conditioner([nothing])
    assert not mixed.mask[0].any() and not mixed.embedding[0].any() and mixed.mask[1].all()
    assert alone.embedding.shape == (1, 1, 16) and not alone.mask.any()


def test_every_prompt_ends_with_the_end_mark_and_is_never_padded_or_cut(hub: Path) -> None:
    assert T5Conditioner.load(hub).tokens("dog barking in rain") == [3, 4, 5, 6, 1]


def test_the_longest_prompt_is_taken_and_a_longer_one_refused_with_its_length(hub: Path) -> None:
    conditioner = T5Conditioner.load(hub)
    assert conditioner.embed_one("dog " * (MAX_TOKENS - 1)).shape == (MAX_TOKENS, 16)
    with pytest.raises(InputError, match=f"10001 tokens of at most {MAX_TOKENS}; shorten it"):
        conditioner(["rain", "dog " * 10_000])


def test_the_encoder_is_frozen_and_its_vectors_can_be_trained_upon(hub: Path) -> None:
    conditioner = T5Conditioner.load(hub)
    assert not conditioner.encoder.training and not any(p.requires_grad for p in conditioner.encoder.parameters())
    projection = torch.nn.Linear(16, 4)
    projection(conditioner(["dog"]).embedding).sum().backward()
    assert projection.weight.grad is not None


def test_a_prompt_met_again_is_not_encoded_again_and_the_memory_is_bounded(hub: Path) -> None:
    conditioner = T5Conditioner.load(hub)
    conditioner.cache_size = 2
    calls: list[None] = []
    conditioner.encoder.register_forward_hook(lambda *_: calls.append(None))
    conditioner(["dog", "dog", "cat"])
    assert len(calls) == 2
    conditioner(["dog", "rain", "dog"])  # the cat, longest unused, makes room
    assert len(calls) == 3
    conditioner(["cat"])
    assert len(calls) == 4


def test_8_bits_are_within_half_a_step_of_the_weights_and_load_back_as_they_stand(hub: Path, tmp_path: Path) -> None:
    tensors = load_file(hub / "model.safetensors")
    tensors = {name: tensor for name, tensor in tensors.items() if name != "encoder.embed_tokens.weight"}
    packed = {name: Quantized.of(tensor) if tensor.ndim == 2 else tensor for name, tensor in tensors.items()}
    save_int8(tmp_path / "small", T5Config(**TINY), packed, hub / "tokenizer.json", {"licence": "MIT"})
    loaded = T5Conditioner.load(tmp_path / "small").encoder.state_dict()
    for name, tensor in packed.items():
        if isinstance(tensor, Quantized):
            assert tensor.values.dtype == torch.uint8
            assert (tensors[name] - loaded[name]).abs().max() <= tensor.scale * 0.5001
            assert torch.equal(loaded[name], tensor.dequantize())
        else:
            assert torch.equal(loaded[name], tensor)
    header = json.loads((tmp_path / "small" / "config.json").read_text())
    assert header["kind"] == "t5-int8" and header["source"] == {"licence": "MIT"}


def test_the_fingerprint_is_of_the_weights_and_not_of_their_file(hub: Path, tmp_path: Path) -> None:
    first = T5Conditioner.load(hub).fingerprint
    tensors = load_file(hub / "model.safetensors")
    tensors.pop("encoder.embed_tokens.weight", None)
    save_int8(tmp_path / "copy", T5Config(**TINY), tensors, hub / "tokenizer.json")
    assert T5Conditioner.load(tmp_path / "copy").fingerprint == first and len(first) == 12 and int(first, 16) >= 0
    tensors["encoder.final_layer_norm.weight"][0] += 1e-3
    save_int8(tmp_path / "changed", T5Config(**TINY), tensors, hub / "tokenizer.json")
    assert T5Conditioner.load(tmp_path / "changed").fingerprint != first


def edit_tensors(folder: Path, **changes: torch.Tensor | None) -> None:
    tensors = {**load_file(folder / "model.safetensors"), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / "model.safetensors")


def edit_config(folder: Path, **changes: Any) -> None:
    data = json.loads((folder / "config.json").read_text())
    data = {key: value for key, value in {**data, **changes}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(data))


def replace_by_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def lose_a_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"shared.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


NORM = "encoder.final_layer_norm.weight"
OURS = {"format": 1, "kind": "t5-int8", "config": TINY, "source": {}}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "no readable config.json"),
        (lambda f: (f / "config.json").write_text("{"), "not valid JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "must hold a table"),
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "is not a tokenizer"),
        (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"not tensors"), "cannot read .*model.safetensors"),
        (replace_by_pickle, "only pickled weights"),
        (lose_a_shard, "cannot read .*model-00001-of-00002.safetensors"),
        (lambda f: edit_tensors(f, extra=torch.zeros(1)), "an unexpected tensor 'extra'"),
        (lambda f: edit_tensors(f, **{NORM: None}), f"no tensor '{NORM}'"),
        (lambda f: edit_tensors(f, **{NORM: torch.ones(7)}), r"has shape \[7\], its config.json makes \[16\]"),
        (lambda f: edit_tensors(f, **{NORM: torch.ones(16).char()}), "in 8 bits without a scale"),
        (lambda f: edit_config(f, model_type="bert"), "type 'bert', but a T5 is needed"),
        (lambda f: edit_config(f, d_model="wide"), "d_model: expected int"),
        (lambda f: edit_config(f, d_model=None), "'d_model' is missing"),
        (lambda f: edit_config(f, feed_forward_proj="gated-tanh"), "'gated-tanh' is not one of"),
        (lambda f: edit_config(f, kind="lm"), "must hold format, kind, config and source"),
        (lambda f: (f / "config.json").write_text(json.dumps({**OURS, "kind": "lm"})), "is of the kind 'lm'"),
        (lambda f: (f / "config.json").write_text(json.dumps({**OURS, "format": 2})), "has format 2"),
        (
            lambda f: (f / "config.json").write_text(json.dumps({**OURS, "config": {**TINY, "d_modle": 1}})),
            "unknown setting 'd_modle'; did you mean 'd_model'",
        ),
    ],
)
def test_a_folder_that_is_not_a_text_encoder_says_what_is_wrong(hub: Path, damage: Any, message: str) -> None:
    damage(hub)
    with pytest.raises(CheckpointError, match=message):
        T5Conditioner.load(hub)


@pytest.mark.skipif(not BUNDLED.is_dir(), reason="the bundled text encoder is not in this checkout")
def test_the_bundled_encoder_puts_a_word_beside_its_kin() -> None:
    text = T5Conditioner.load(BUNDLED)
    assert text.dim == 512

    def vector(word: str) -> torch.Tensor:
        return text.embed_one(word)[:-1].mean(0)  # without the end mark

    for word, kin in {"hound": "dog", "kitten": "cat"}.items():
        others = [kin, "rain", "piano", "car"]
        closeness = [F.cosine_similarity(vector(word), vector(other), dim=0).item() for other in others]
        assert max(closeness) == closeness[0], dict(zip(others, closeness, strict=True))
