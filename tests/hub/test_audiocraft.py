"""AudioCraft's files: its own numbers from the fixtures, and every way a file can say something that is not here."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml

from audiogen_cli.errors import CheckpointError
from audiogen_cli.hub import audiocraft, catalog
from audiogen_cli.hub.audiocraft import Settings
from audiogen_cli.models.decoding import Sampling, decode, finish
from audiogen_cli.ops import patterns
from audiogen_cli.pipelines.generate import generate

Edit = Callable[..., Path]


@torch.no_grad()
def test_codes_and_sound_are_audiocrafts(fixture: Any) -> None:
    codec, expected = catalog.load(fixture.meta["repo"]).codec, fixture.expected
    assert torch.equal(codec.encode(expected["wav"]), expected["codes"])
    torch.testing.assert_close(codec.decode(expected["codes"]), expected["recon"], atol=1e-4, rtol=0)


@torch.no_grad()
def test_teacher_forced_logits_are_audiocrafts(fixture: Any) -> None:
    model, expected = catalog.load(fixture.meta["repo"]), fixture.expected
    step = model.lm.config.steps(expected["teacher"].shape[2])
    special = model.lm.config.special
    steps = F.pad(patterns.apply(expected["teacher"], step, special), (1, -1), value=special)
    logits = model.lm(steps, model.text([fixture.meta["text"]]))
    logits = logits.gather(2, step[None, :, :, None].expand(1, -1, -1, logits.shape[3]))  # [1, K, T, V]
    torch.testing.assert_close(logits[expected["mask"]], expected["logits"][expected["mask"]], atol=1e-4, rtol=0)


def test_guided_greedy_tokens_and_their_sound_are_audiocrafts(fixture: Any) -> None:
    model, meta = catalog.load(fixture.meta["repo"]), fixture.meta
    greedy = Sampling(temperature=0, guidance=meta["cfg_coef"])
    condition = model.text([meta["text"]])
    assert torch.equal(finish(decode(model.lm, condition, 50, [0], greedy)), fixture.expected["tokens"])
    [sound] = finish(generate(model, [meta["text"]], 1.0, [0], greedy, normalize="none", fade=0))
    torch.testing.assert_close(sound, fixture.expected["audio"][0], atol=1e-4, rtol=0)


def test_a_prompt_is_the_same_alone_and_in_a_batch(fixture: Any) -> None:
    model, text = catalog.load(fixture.meta["repo"]), fixture.meta["text"]
    greedy = Sampling(temperature=0)
    batch = generate(model, [text, "wind", text * 3], 0.4, [0, 0, 0], greedy, normalize="none", fade=0)
    [alone] = finish(generate(model, [text], 0.4, [0], greedy, normalize="none", fade=0))
    assert torch.equal(finish(batch)[0], alone)


@torch.no_grad()
def test_padding_is_heard_as_audiocraft_hears_it_or_masked(fixture: Any) -> None:
    """AudioCraft: a zero vector with its share of the attention. Masked: as if it were not there."""
    heard, masked = (catalog.load(fixture.meta["repo"], padding=padding) for padding in ("audiocraft", "masked"))
    text, both = fixture.meta["text"], heard.text([fixture.meta["text"], fixture.meta["text"] * 3])
    steps = torch.full((1, 4, 3), heard.lm.config.special)
    one = type(both)(both.embedding[:1], both.mask[:1])
    assert (heard.lm(steps, one) - heard.lm(steps, heard.text([text]))).abs().max() > 1e-5
    torch.testing.assert_close(masked.lm(steps, one), masked.lm(steps, masked.text([text])), atol=1e-5, rtol=0)


def test_the_hash_tells_other_weights_and_knows_the_same(fixture: Any, edited: Edit) -> None:
    assert catalog.find(fixture.meta["repo"]).hash == catalog.find(fixture.snapshot).hash
    if fixture.meta["kind"] == "audiogen":
        changed = edited(lm=lambda package: package["best_state"]["out_norm.bias"].add_(1))
        assert catalog.find(changed).hash != catalog.find(fixture.snapshot).hash


# ---- configuration


def config(package: dict, **changes: Any) -> None:
    """Changes dotted settings of the YAML text."""
    settings = yaml.safe_load(package["xp.cfg"])
    for name, value in changes.items():
        node, *path = settings, *name.split("__")
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = value
    package["xp.cfg"] = yaml.safe_dump(settings)


def test_references_are_resolved_wherever_they_stand() -> None:
    text = """
rate: 32000
channels: 1
size: {n_q: 4, lr: 1e-05, deep: '${a.b}'}
a: {b: {c: '${rate}'}}
codec: {sample_rate: '${rate}', both: ['${channels}', 2], name: 'at ${rate} Hz, ${size.n_q}', lost: '${nowhere}'}
ring: '${ring}'
"""
    settings = Settings(text, Path("file"))
    assert settings.get("codec.sample_rate") == 32000
    assert settings.get("codec.both") == [1, 2]
    assert settings.get("codec.name") == "at 32000 Hz, 4"
    assert settings.get("size.deep.c") == 32000
    assert settings.number("size.lr") == 1e-5
    assert settings.get("size.none", 7) == 7
    for name, reason in (("codec.lost", "refers to 'nowhere'"), ("ring", "refers to itself"), ("size.no", "lacks")):
        with pytest.raises(CheckpointError, match=reason):
            settings.get(name)
    with pytest.raises(CheckpointError, match="not a number"):
        settings.number("codec.name")


@pytest.mark.parametrize("text", [None, 3, "a: [", "just words", "a: !!python/object/apply:os.getcwd []"])
def test_what_is_no_plain_configuration_is_refused(text: object) -> None:
    with pytest.raises(CheckpointError, match=r"xp\.cfg"):
        Settings(text, Path("file"))


def test_every_size_comes_from_the_configuration(edited: Edit) -> None:
    def change(package: dict) -> None:
        config(package, codebooks_pattern__delay__delays=[0, 2, 4, 6], dataset__segment_duration=20)
        config(package, classifier_free_guidance__inference_coef=4.5, sample_rate="${compression.rate}")
        config(package, compression__rate=16000)

    folder = edited(lm=change)
    codec = audiocraft.load_codec(folder / "compression_state_dict.bin")
    lm = audiocraft.load_lm(folder / "state_dict.bin", codec, torch.float16)
    assert lm.config.delays == (0, 2, 4, 6)
    assert (lm.config.window_seconds, audiocraft.facts(folder).guidance) == (20, 4.5)
    assert lm.out_norm.weight.dtype == torch.float16


def test_the_oldest_files_have_no_pattern(edited: Edit) -> None:
    def change(package: dict) -> None:
        settings = yaml.safe_load(package["xp.cfg"])
        del settings["codebooks_pattern"], package["version"], package["exported"]
        settings["transformer_lm"]["q_modeling"] = "delay"
        package["xp.cfg"] = yaml.safe_dump(settings)

    folder = edited(lm=change)
    codec = audiocraft.load_codec(folder / "compression_state_dict.bin")
    assert audiocraft.load_lm(folder / "state_dict.bin", codec, torch.float32).config.delays == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"transformer_lm__norm_first": False}, "transformer_lm.norm_first"),
        ({"transformer_lm__positional_embedding": "rope"}, "positional_embedding"),
        ({"transformer_lm__qk_layer_norm": True}, "qk_layer_norm"),
        ({"transformer_lm__kv_repeat": 2}, "kv_repeat"),
        ({"lm_model": "transformer_lm_magnet"}, "lm_model"),
        ({"interleave_stereo_codebooks__per_timestep": True}, "per_timestep"),
        ({"fuser__sum": ["description"]}, "fuser.sum"),
        ({"fuser__prepend": ["description"]}, "fuser joins"),
        ({"codebooks_pattern__modeling": "musiclm"}, "pattern 'musiclm'"),
        ({"codebooks_pattern__delay__flatten_first": 1}, "flatten_first"),
        ({"conditioners__self_wav__model": "style"}, "conditioners.self_wav.model"),
        ({"conditioners__chords": {"model": "x"}}, "condition 'chords'"),
        ({"conditioners__description__t5__normalize_text": True}, "normalize_text"),
        ({"transformer_lm__num_heads": 5}, "even width"),
        ({"transformer_lm__num_layers": 4}, "no tensor 'transformer.layers.3"),
        ({"transformer_lm__num_layers": 2}, "unexpected tensor 'transformer.layers.2"),
        ({"transformer_lm__card": 90}, "tensor 'emb.0.weight' has shape"),
        ({"sample_rate": 32000}, "codec at 32000 Hz"),
    ],
    ids=str,
)
def test_what_is_not_computed_here_is_named(edited: Edit, change: dict, named: str) -> None:
    folder = edited(lm=lambda package: config(package, **change))
    codec = audiocraft.load_codec(folder / "compression_state_dict.bin")
    with pytest.raises(CheckpointError, match=named):
        audiocraft.load_lm(folder / "state_dict.bin", codec, torch.float32)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"compression_model": "dac"}, "compression_model"),
        ({"seanet__decoder__final_activation": "Tanh"}, "final_activation"),
        ({"seanet__pad_mode": "mirror"}, "pad_mode"),
        ({"rvq__n_q": 5}, "no tensor 'quantizer.stages.4"),
    ],
    ids=str,
)
def test_a_codec_that_is_not_computed_here_is_named(edited: Edit, change: dict, named: str) -> None:
    folder = edited(codec=lambda package: config(package, **change))
    with pytest.raises(CheckpointError, match=named):
        audiocraft.load_codec(folder / "compression_state_dict.bin")


def test_the_codec_pads_as_its_file_says(edited: Edit) -> None:
    """The published configurations disagree, so the name of the model must not decide."""
    folder = edited(codec=lambda package: config(package, seanet__pad_mode="reflect", encodec__renormalize=None))
    assert audiocraft.load_codec(folder / "compression_state_dict.bin").config.pad_mode == "reflect"


# ---- tensors


def test_a_key_outside_the_table_is_named(edited: Edit) -> None:
    folder = edited(lm=lambda package: package["best_state"].update({"transformer.extra": torch.zeros(1)}))
    codec = audiocraft.load_codec(folder / "compression_state_dict.bin")
    with pytest.raises(CheckpointError, match=r"unexpected tensor 'transformer\.extra'"):
        audiocraft.load_lm(folder / "state_dict.bin", codec, torch.float32)


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("it-ran"),))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_wants_to_run_code_is_refused_and_runs_nothing(
    edited: Edit, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = edited()
    monkeypatch.chdir(folder)
    if zipped:
        torch.save({"best_state": {}, "xp.cfg": RunsCode()}, folder / "state_dict.bin")
    else:
        (folder / "state_dict.bin").write_bytes(pickle.dumps({"best_state": {}, "xp.cfg": RunsCode()}))
    with pytest.raises(CheckpointError, match="wants to run code"):
        catalog.load(folder)
    assert not Path("it-ran").exists()


@pytest.mark.parametrize("keep", [0, 100, 0.5, -20])
def test_a_file_that_is_cut_is_one_sentence(edited: Edit, keep: float) -> None:
    path = edited() / "state_dict.bin"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match=r"fetch|source you trust"):
        catalog.find(path.parent)


def test_a_training_checkpoint_is_no_export(edited: Edit) -> None:
    folder = edited(codec=lambda package: package.update(best_state={"model": package["best_state"]}))
    with pytest.raises(CheckpointError, match="flat table"):
        audiocraft.load_codec(folder / "compression_state_dict.bin")


@pytest.mark.parametrize("prefix", ["", "//pretrained/"])
def test_a_codec_can_be_a_reference(edited: Edit, prefix: str) -> None:
    def point(package: dict) -> None:
        package.clear()
        package.update(pretrained=f"{prefix}facebook/encodec_32khz", exported=True, version="1.3.0")

    assert audiocraft.facts(edited(codec=point)).codec == "facebook/encodec_32khz"


def test_a_reference_to_another_kind_of_codec_is_refused(edited: Edit) -> None:
    folder = edited(codec=lambda package: (package.clear(), package.update(pretrained="dac_44khz")))
    with pytest.raises(CheckpointError, match="dac_44khz"):
        audiocraft.facts(folder)


# ---- stereo and melody: the weights of transformers' models, written as AudioCraft writes them


def in_audiocraft_layout(theirs: Any, folder: Path, channels: int, melody: bool, encodec: str | None) -> None:
    """A MusicGen of transformers as the two files."""
    decoder = theirs.config.decoder
    delays = [index // channels for index in range(decoder.num_codebooks)]
    settings = {
        "lm_model": "transformer_lm",
        "sample_rate": 600,
        "channels": channels,
        "dataset": {"segment_duration": 8.0},
        "interleave_stereo_codebooks": {"use": channels == 2, "per_timestep": False},
        "codebooks_pattern": {"modeling": "delay", "delay": {"delays": delays}},
        "transformer_lm": {
            "dim": decoder.hidden_size,
            "num_heads": decoder.num_attention_heads,
            "num_layers": decoder.num_hidden_layers,
            "hidden_scale": decoder.ffn_dim // decoder.hidden_size,
            "n_q": decoder.num_codebooks,
            "card": decoder.vocab_size,
        },
        "fuser": {"cross": [], "prepend": ["self_wav", "description"]} if melody else {"cross": ["description"]},
        "conditioners": {"description": {"model": "t5", "t5": {"name": "t5-base"}}},
    }
    if melody:
        chroma = {"n_chroma": 12, "radix2_exp": 12, "argmax": True}  # 1 + 4800 // 1024 = 5 frames
        settings["conditioners"]["self_wav"] = {"model": "chroma_stem", "chroma_stem": chroma}
    torch.save({"best_state": lm_state(theirs), "xp.cfg": yaml.safe_dump(settings)}, folder / "state_dict.bin")
    assert encodec is not None
    torch.save({"pretrained": encodec, "exported": True}, folder / "compression_state_dict.bin")


def lm_state(theirs: Any) -> dict[str, torch.Tensor]:
    provider = "condition_provider.conditioners."
    names = {
        "decoder.model.decoder.layers.": "transformer.layers.",
        "decoder.model.decoder.embed_tokens.": "emb.",
        "decoder.model.decoder.layer_norm.": "out_norm.",
        "decoder.lm_heads.": "linears.",
        "audio_enc_to_dec_proj.": f"{provider}self_wav.output_proj.",
        "enc_to_dec_proj.": f"{provider}description.output_proj.",
        "encoder_attn_layer_norm": "norm_cross",
        "self_attn_layer_norm": "norm1",
        "final_layer_norm": "norm2",
        "encoder_attn.": "cross_attention.",
        ".fc": ".linear",
    }
    state = {}
    for name, tensor in theirs.state_dict().items():
        if name.startswith(("text_encoder.", "audio_encoder.")) or "embed_positions" in name:
            continue
        for old, new in names.items():
            name = name.replace(old, new) if old != "enc_to_dec_proj." or name.startswith(old) else name
        state[name] = tensor.clone()
    for name in [name for name in state if ".q_proj." in name]:
        parts = [state.pop(name.replace(".q_proj.", f".{part}_proj.")) for part in "qkv"]
        state[name.replace(".q_proj.weight", ".in_proj_weight")] = torch.cat(parts)
    state[f"{provider}self_wav.chroma.spec.window"] = torch.ones(4)
    return state


@pytest.mark.parametrize(("channels", "melody"), [(1, False), (2, False), (1, True), (2, True)])
@torch.no_grad()
def test_stereo_and_melody_files_compute_what_transformers_computes(
    tiny_musicgen: Callable[..., Any],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    channels: int,
    melody: bool,
) -> None:
    """The codec by reference, in the cache under its own name."""
    import shutil

    theirs = tiny_musicgen(channels=channels, melody=melody)
    if melody:
        theirs.config.chroma_length = 5
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--facebook--musicgen-some" / "snapshots" / "0"
    codec = tmp_path / "models--facebook--encodec_32khz" / "snapshots" / "main"
    text = tmp_path / "models--google-t5--t5-base" / "snapshots" / "main"
    for place in (folder, codec, text):
        place.mkdir(parents=True)
    in_audiocraft_layout(theirs, folder, channels, melody, "//pretrained/facebook/encodec_32khz")
    theirs.audio_encoder.save_pretrained(codec)
    theirs.text_encoder.save_pretrained(text)
    shutil.copyfile(tiny_model / "text" / "tokenizer.json", text / "tokenizer.json")
    model = catalog.load("facebook/musicgen-some@0")
    ids = torch.tensor([model.text.tokens("dog barking")])
    wanted = theirs.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, guidance_scale=3.0, max_new_tokens=23
    )
    greedy = Sampling(temperature=0, guidance=3.0)
    [sound] = finish(generate(model, ["dog barking"], 0.2, [0], greedy, normalize="none", fade=0))
    torch.testing.assert_close(sound, wanted[0, :, :120], atol=1e-4, rtol=0)
    assert not melody or (model.lm.config.melody_frames, model.lm.config.melody_fft) == (5, 2**12)
