"""transformers' folders: its models of random weights, saved as it saves them, compute here what they compute there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.conditioners.melody import loudest_bins
from audiogen_cli.errors import CheckpointError
from audiogen_cli.hub import catalog, transformers
from audiogen_cli.models.decoding import Sampling, decode, finish, with_null
from audiogen_cli.ops import patterns
from audiogen_cli.pipelines.generate import generate

PROMPT = "dog barking in rain"
SHAPES = [
    {"channels": 1},
    {"channels": 2, "dim": 24, "layers": 3},
    {"channels": 1, "dim": 16, "layers": 1, "text_dim": 16},  # as wide as the text: no projection in the file
    {"channels": 1, "melody": True},
    {"channels": 2, "melody": True, "layers": 1},
]
Build, Save = Callable[..., Any], Callable[..., Path]


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_guided_greedy_sound_is_that_of_transformers(tiny_musicgen: Build, saved: Save, shape: dict) -> None:
    theirs = tiny_musicgen(**shape)
    model = catalog.load(saved(theirs, shard="20KB"))
    ids = torch.tensor([model.text.tokens(PROMPT)])
    wanted = theirs.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, guidance_scale=3.0, max_new_tokens=23
    )
    greedy = Sampling(temperature=0, guidance=3.0)
    [sound] = finish(generate(model, [PROMPT], 0.2, [0], greedy, normalize="none", fade=0))
    assert sound.shape == (shape["channels"], 120) and sound.std() > 0.01
    torch.testing.assert_close(sound, wanted[0, :, :120], atol=1e-4, rtol=0)
    assert model.codec.encode(sound[None]).unique().numel() > 3


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES[:2], ids=str)
def test_logits_are_those_of_transformers(tiny_musicgen: Build, saved: Save, shape: dict) -> None:
    theirs = tiny_musicgen(**shape)
    model = catalog.load(saved(theirs))
    ids = torch.tensor([model.text.tokens(PROMPT)])
    count, special = model.lm.config.num_codebooks, model.lm.config.special
    codes = torch.randint(0, 16, (1, count, 9), generator=torch.Generator().manual_seed(1))
    steps = F.pad(patterns.apply(codes, model.lm.config.steps(9), special), (1, 0), value=special)
    wanted = theirs(input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=steps.flatten(0, 1)).logits
    condition = model.text([PROMPT])
    assert isinstance(condition, Condition)
    torch.testing.assert_close(model.lm(steps, condition), wanted.view(1, count, steps.shape[2], 16), atol=1e-4, rtol=0)


def tune(seconds: float, rate: int = 600) -> torch.Tensor:
    """Seven notes as long as one another, [1, N]."""
    time = torch.arange(round(seconds * rate)) / rate
    semitones = torch.tensor([0, 2, 4, 5, 7, 9, 11])[(time * 7 / seconds).long().clamp_max(6)]
    return (2 * torch.pi * (130.8128 * 2 ** (semitones / 12)).cumsum(0) / rate).sin()[None]


def chroma(waveform: torch.Tensor) -> torch.Tensor:
    """[1, N] -> [1, frames, 12], as many as there are; tests/conditioners/test_melody.py holds this to theirs."""
    return F.one_hot(loudest_bins(waveform[0], 600, 2**14), 12).float()[None]


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES[3:], ids=str)
def test_logits_under_a_melody_are_those_of_transformers(tiny_musicgen: Build, saved: Save, shape: dict) -> None:
    """And of the other half of guidance, which hears neither text nor melody."""
    theirs = tiny_musicgen(**shape)
    model = catalog.load(saved(theirs))
    ids, features = torch.tensor([model.text.tokens(PROMPT)]), chroma(tune(60.0))[:, :7]
    assert features.argmax(dim=2).unique().numel() > 3
    count, special = model.lm.config.num_codebooks, model.lm.config.special
    codes = torch.randint(0, 16, (1, count, 9), generator=torch.Generator().manual_seed(1))
    steps = F.pad(patterns.apply(codes, model.lm.config.steps(9), special), (1, 0), value=special)
    condition = replace(model.text([PROMPT]), melody=features.argmax(dim=2))
    ours = model.lm(steps.repeat(2, 1, 1), with_null(condition))
    states = theirs.text_encoder(input_ids=ids).last_hidden_state
    silence = F.one_hot(torch.zeros(1, 7, dtype=torch.int64), 12).float()
    text = theirs.enc_to_dec_proj(states)
    for row, heard, words in ((0, features, text), (1, silence, torch.zeros_like(text))):
        prefix = torch.cat([theirs.audio_enc_to_dec_proj(heard), words], dim=1)
        wanted = theirs.decoder(input_ids=steps.flatten(0, 1), encoder_hidden_states=prefix).logits
        wanted = wanted[:, -steps.shape[2] :].view(count, steps.shape[2], 16)
        torch.testing.assert_close(ours[row], wanted, atol=1e-4, rtol=0)
    assert (model.lm(steps, replace(condition, melody=None)) - ours[:1]).abs().max() > 0.01
    asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "input_features": features}
    whole = theirs(**asked, decoder_input_ids=steps.flatten(0, 1)).logits
    torch.testing.assert_close(ours[0], whole[:, -steps.shape[2] :].view_as(ours[0]), atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("seconds", [20.0, 40.0, 60.0])  # 5 frames twice over, 6, and 9 cut to 7
@pytest.mark.parametrize("shape", SHAPES[3:], ids=str)
def test_guided_greedy_sound_under_a_melody_is_that_of_transformers(
    tiny_musicgen: Build, saved: Save, shape: dict, seconds: float
) -> None:
    theirs = tiny_musicgen(**shape)
    model = catalog.load(saved(theirs))
    ids, features = torch.tensor([model.text.tokens(PROMPT)]), chroma(tune(seconds))
    asked = {"attention_mask": torch.ones_like(ids), "do_sample": False, "guidance_scale": 3.0, "max_new_tokens": 23}
    wanted = theirs.generate(input_ids=ids, input_features=features, **asked)
    greedy = Sampling(temperature=0, guidance=3.0)
    raw: dict[str, Any] = {"normalize": "none", "fade": 0}
    [sound] = finish(generate(model, [PROMPT], 0.2, [0], greedy, **raw, melody=(tune(seconds), 600)))
    torch.testing.assert_close(sound, wanted[0, :, :120], atol=1e-4, rtol=0)
    [without] = finish(generate(model, [PROMPT], 0.2, [0], greedy, **raw))
    assert (sound - without).abs().max() > 0.01


@torch.no_grad()
def test_a_batch_with_its_padding_is_audiocrafts_batch(tiny_musicgen: Build, saved: Save) -> None:
    """transformers' network fed as AudioCraft feeds its own: texts padded together, vectors zeroed, and no mask.

    Each code is the likeliest after those before it, so by induction the greedy tokens are those of its loop.
    """
    theirs = tiny_musicgen()
    model = catalog.load(saved(theirs))
    prompts, special = ["dog", PROMPT, None], model.lm.config.special
    tokens = [model.text.tokens(prompt or "") for prompt in prompts]
    longest = max(map(len, tokens))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in tokens])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in tokens])
    states = theirs.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    heard = theirs.enc_to_dec_proj(states) * mask[..., None]
    greedy = Sampling(temperature=0, guidance=3.0)
    codes = finish(decode(model.lm, model.text(prompts), 9, [0, 0, 0], greedy, keep_padding=True))
    alone = finish(decode(model.lm, model.text(prompts), 9, [0, 0, 0], greedy))
    wanted = patterns.apply(codes, model.lm.config.steps(9), special)  # [B, K, S]
    steps = F.pad(wanted, (1, -1), value=special).flatten(0, 1)
    text, null = (
        theirs.decoder(input_ids=steps, encoder_hidden_states=vectors, encoder_attention_mask=None).logits
        for vectors in (heard, torch.zeros_like(heard))
    )
    likeliest = (null + (text - null) * 3.0).argmax(dim=-1).view_as(wanted)
    assert torch.equal(likeliest[wanted != special], wanted[wanted != special])
    assert torch.equal(codes[1], alone[1]) and not torch.equal(codes[0], alone[0])


def encodec(**changes: Any) -> Any:
    theirs = pytest.importorskip("transformers")
    small = {"hidden_size": 6, "num_filters": 4, "upsampling_ratios": [3, 2], "codebook_size": 16}
    config = theirs.EncodecConfig(**(small | {"sampling_rate": 600, "target_bandwidths": [0.8, 1.6]} | changes))
    torch.manual_seed(0)
    model = theirs.EncodecModel(config).eval()
    with torch.no_grad():
        for layer in model.quantizer.layers:
            layer.codebook.embed.normal_(std=0.1)
    return model


KINDS = {
    "24 kHz": {},
    "32 kHz": {"use_causal_conv": False, "use_conv_shortcut": False},
    "48 kHz": {
        "use_causal_conv": False,
        "norm_type": "time_group_norm",
        "normalize": True,
        "audio_channels": 2,
        "chunk_length_s": 1.0,
        "overlap": 0.01,
    },
}


@torch.no_grad()
@pytest.mark.parametrize("spelling", ["as saved", "old", "new"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_codec_folder_gives_their_codes_and_sound(kind: str, spelling: str, saved: Save) -> None:
    theirs = encodec(**KINDS[kind])
    folder = saved(theirs, tokenizer=False)
    respell(folder / "model.safetensors", spelling)
    codec = transformers.load_codec(folder)
    waveform = torch.randn(1, codec.channels, 590, generator=torch.Generator().manual_seed(0)) * 0.3
    wanted = theirs.encode(waveform, bandwidth=1.6)
    found = codec.encode_scaled(waveform)
    assert codec.num_codebooks == 4 and codec.config.segment_seconds == KINDS[kind].get("chunk_length_s")
    assert torch.equal(found.codes, wanted.audio_codes[0])
    sound = theirs.decode(wanted.audio_codes, wanted.audio_scales).audio_values
    torch.testing.assert_close(codec.decode_scaled(found)[..., : sound.shape[-1]], sound, atol=1e-4, rtol=0)


def respell(path: Path, spelling: str) -> None:
    """Weight norm's two tensors under their older or their newer names."""
    pairs = [("weight_g", "parametrizations.weight.original0"), ("weight_v", "parametrizations.weight.original1")]
    state = load_file(path)
    for old, new in pairs if spelling != "as saved" else []:
        one, other = (new, old) if spelling == "old" else (old, new)
        state = {name.replace(f".{one}", f".{other}"): tensor for name, tensor in state.items()}
    save_file(state, path)


def test_a_tensor_that_does_not_belong_is_named(tiny_musicgen: Build, saved: Save) -> None:
    folder = saved(tiny_musicgen())
    state = load_file(folder / "model.safetensors")
    save_file(state | {"decoder.model.decoder.layers.0.fc3.weight": torch.zeros(2)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"unexpected tensor 'decoder.model.decoder.layers.0.fc3.weight'"):
        catalog.load(folder)


def test_a_missing_shard_and_a_missing_part_are_one_sentence(tiny_musicgen: Build, saved: Save) -> None:
    folder = saved(tiny_musicgen(), shard="20KB")
    next(folder.glob("model-00002-*")).unlink()
    with pytest.raises(CheckpointError, match="has no model-00002-of-"):
        catalog.load(folder)
    settings = json.loads((folder / "config.json").read_text())
    del settings["decoder"]
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="nothing about its 'decoder'"):
        catalog.load(folder)


def test_other_activations_are_refused(tiny_musicgen: Build, saved: Save) -> None:
    folder = saved(tiny_musicgen())
    settings = json.loads((folder / "config.json").read_text())
    settings["decoder"]["activation_function"] = "relu"
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="another activation"):
        catalog.load(folder)


def test_the_kind_is_that_of_the_config(tmp_path: Path) -> None:
    assert transformers.kind(tmp_path) is None
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert transformers.kind(tmp_path) is None
    (tmp_path / "config.json").write_text('{"model_type": "encodec"}')
    assert transformers.kind(tmp_path) == "encodec"
