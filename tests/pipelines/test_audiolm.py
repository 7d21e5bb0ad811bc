"""The pipeline, and the programs of audiolm-pytorch's README on tiny sizes (both of the seed's READMEs hold the same).

What differs from the README: `audiogen_cli` for `audiolm_pytorch`, and a folder in transformers' layout for fairseq's
file.
"""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

import audiogen_cli
from audiogen_cli import (
    AudioLM,
    CoarseAndFineTransformer,
    CoarseTransformer,
    CoarseTransformerTrainer,
    FineTransformer,
    FineTransformerTrainer,
    HubertWithKmeans,
    SemanticTransformer,
    SemanticTransformerTrainer,
    SoundStream,
)
from audiogen_cli.data import audio
from audiogen_cli.errors import AudioError, InputError, ModelError
from audiogen_cli.hub import checkpoint
from audiogen_cli.models.audiolm import Piece
from audiogen_cli.models.decoding import finish
from audiogen_cli.pipelines import audiolm as audiolm_pipeline
from audiogen_cli.pipelines.audiolm import TEMPERATURES, Request

SIZES = {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8}
RATE = 8_000  # of the tiny codec: 50 frames a second, as many as semantic ids


@pytest.fixture(scope="module")
def wav2vec(speech_model: Path) -> HubertWithKmeans:
    return HubertWithKmeans(checkpoint_path=speech_model, kmeans_path=speech_model / "kmeans.safetensors")


@pytest.fixture(scope="module")
def codec(tiny_model: Path) -> Any:
    return checkpoint.load(tiny_model / "codec")


def stages(wav2vec: HubertWithKmeans, unique: bool = True, **more: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    common = SIZES | more
    words = {"num_semantic_tokens": wav2vec.codebook_size, "unique_consecutive": unique}
    levels = {"codebook_size": 16, "num_coarse_quantizers": 2}
    return {
        "semantic_transformer": SemanticTransformer(**words, **common),
        "coarse_transformer": CoarseTransformer(**words, **levels, **common),
        "fine_transformer": FineTransformer(**levels, num_fine_quantizers=2, **common),
    }


def windowed(parts: dict[str, Any], semantic: float, coarse: float, fine: float) -> dict[str, Any]:
    for name, seconds in (("semantic", semantic), ("coarse", coarse), ("fine", fine)):
        stage = parts[f"{name}_transformer"]
        stage.config = dataclasses.replace(stage.config, window_seconds=seconds)
        if stage.config.end is not None:  # sounds of a known length
            with torch.no_grad():
                stage.heads[-1][0].weight[-1] = 0
                stage.out_norm.bias[:] = 0.5
                stage.heads[-1][0].weight[-1] -= 50
    return parts


@pytest.fixture
def long_model(wav2vec: HubertWithKmeans, codec: Any) -> AudioLM:
    """Keeps repeated ids; windows of 0.4, 0.2 and 0.1 s."""
    return AudioLM(wav2vec=wav2vec, codec=codec, **windowed(stages(wav2vec, unique=False), 0.4, 0.2, 0.1))


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    (tmp_path / "sounds").mkdir()
    for index, name in enumerate(("dog barking", "rain", "bell")):
        noise = torch.randn(1, 5_000, generator=torch.Generator().manual_seed(index)) * 0.1
        audio.write(tmp_path / f"sounds/{name}.wav", noise, RATE)
    return tmp_path / "sounds"


@pytest.fixture
def trained_soundstream(tmp_path: Path) -> Path:
    """The README's, made small: two groups of lookup-free quantizers, 16 kHz, 50 frames a second."""
    torch.manual_seed(0)
    SoundStream(
        channels=2,
        channel_mults=(1, 1, 1, 2),
        codebook_dim=8,
        codebook_size=16,
        rq_num_quantizers=4,
        rq_groups=2,
        use_lookup_free_quantizer=True,
        attn_window_size=8,
        attn_dim_head=4,
        attn_heads=2,
    ).save(tmp_path / "soundstream")
    return tmp_path / "soundstream"


def test_the_program_of_the_readme(speech_model: Path, trained_soundstream: Path, sounds: Path, tmp_path: Path) -> None:
    wav2vec = HubertWithKmeans(checkpoint_path=speech_model, kmeans_path=speech_model / "kmeans.safetensors")
    semantic_transformer = SemanticTransformer(num_semantic_tokens=wav2vec.codebook_size, flash_attn=True, **SIZES)
    trainer: Any = SemanticTransformerTrainer(
        transformer=semantic_transformer,
        wav2vec=wav2vec,
        folder=sounds,
        batch_size=1,
        data_max_length=320 * 32,
        num_train_steps=1,
        results_folder=tmp_path / "results/semantic",
    )
    trainer.train()
    soundstream = SoundStream.init_and_load_from(trained_soundstream)
    coarse_transformer = CoarseTransformer(
        num_semantic_tokens=wav2vec.codebook_size,
        codebook_size=16,
        num_coarse_quantizers=3,
        flash_attn=True,
        **SIZES,
    )
    trainer = CoarseTransformerTrainer(
        transformer=coarse_transformer,
        codec=soundstream,
        wav2vec=wav2vec,
        folder=sounds,
        batch_size=1,
        data_max_length=320 * 32,
        num_train_steps=1,
        results_folder=tmp_path / "results/coarse",
    )
    trainer.train()
    fine_transformer = FineTransformer(
        num_coarse_quantizers=3, num_fine_quantizers=5, codebook_size=16, flash_attn=True, **SIZES
    )
    trainer = FineTransformerTrainer(
        transformer=fine_transformer,
        codec=soundstream,
        folder=sounds,
        batch_size=1,
        data_max_length=320 * 32,
        num_train_steps=1,
        results_folder=tmp_path / "results/fine",
    )
    trainer.train()
    audiolm = AudioLM(
        wav2vec=wav2vec,
        codec=soundstream,
        semantic_transformer=semantic_transformer,
        coarse_transformer=coarse_transformer,
        fine_transformer=fine_transformer,
    )
    [generated_wav] = audiolm(batch_size=1)
    assert generated_wav.dim() == 2 and generated_wav.shape[1] % 320 == 0 and generated_wav.isfinite().all()
    [generated_wav_with_prime] = audiolm(prime_wave=torch.randn(1, 320 * 8))
    assert generated_wav_with_prime.shape[1] >= 320 * 8
    with pytest.raises(InputError, match="none of this model's stages reads text"):
        audiolm(text=["chirping of birds and the distant echos of bells"])
    [coarse_wav] = audiolm(return_coarse_generated_wave=True)  # three codebooks for two groups
    assert coarse_wav.isfinite().all()


def test_the_text_conditioned_program_of_the_readme(wav2vec: Any, codec: Any, tiny_model: Path, tmp_path: Path) -> None:
    text = {"t5_name": str(tiny_model / "text"), "has_condition": True}
    semantic_transformer = SemanticTransformer(num_semantic_tokens=12, cond_as_self_attn_prefix=True, **text, **SIZES)

    class MockTextAudioDataset(Dataset):
        def __init__(self, length: int = 100, audio_length: int = 320 * 32) -> None:
            super().__init__()
            self.audio_length = audio_length
            self.len = length

        def __len__(self) -> int:
            return self.len

        def __getitem__(self, idx: int) -> tuple[str, torch.Tensor]:
            mock_audio = torch.randn(self.audio_length)
            mock_caption = "audio caption"
            return mock_caption, mock_audio

    trainer = SemanticTransformerTrainer(
        transformer=semantic_transformer,
        wav2vec=wav2vec,
        dataset=MockTextAudioDataset(),
        batch_size=2,
        grad_accum_every=2,
        data_max_length=320 * 32,
        num_train_steps=1,
        results_folder=tmp_path / "results",
    )
    trainer.train()
    sample = trainer.generate(text=["sound of rain drops on the rooftops"], batch_size=1, max_length=2)
    assert len(sample) == 1 and 1 <= len(sample[0]) <= 2
    others = stages(wav2vec) | {"semantic_transformer": semantic_transformer}
    audiolm = AudioLM(wav2vec=wav2vec, codec=codec, **others)
    waves = [audiolm(text=[words], seconds=0.3)[0] for words in ("rain", "dog barking in a sea of waves")]
    assert all(wave.isfinite().all() for wave in waves)


def test_the_public_names_are_those_of_the_readme() -> None:
    for name in ("SemanticTransformer", "CoarseTransformer", "FineTransformer", "AudioLM", "HubertWithKmeans"):
        assert name in audiogen_cli.__all__


@pytest.mark.parametrize("seconds", [0.1, 0.25, 0.9])
def test_the_length_is_what_was_asked_for_however_many_windows(long_model: AudioLM, seconds: float) -> None:
    """[25: windows that do not divide the length silently drop its end]"""
    [wave] = long_model(seconds=seconds)
    assert wave.shape == (1, -(-round(seconds * RATE) // 160) * 160)


@pytest.mark.parametrize("seconds", [0.1, 0.7])
def test_a_prompt_reaches_every_stage_and_stays(long_model: AudioLM, codec: Any, seconds: float) -> None:
    """[#201: the prompt is ignored by the coarse and fine stages]"""
    prompt = torch.randn(1, 160 * 15) * 0.1
    codes = codec.encode(prompt[None], 4)
    for seed in range(2):
        request = Request([seed], prompts=[prompt], seconds=seconds)
        [wave] = finish(long_model.generate(request))
        assert wave.shape[1] == 160 * 15 + round(seconds * RATE)
        [row] = long_model._begun(request)
        assert torch.equal(row.codes, codes[0]) and row.semantic.shape == (15,)
        found = row
        for stage in (long_model._semantic, long_model._coarse, long_model._fine):
            [found] = finish(stage([found], request))
        assert torch.equal(found.made[:, :15], codes[0]) and found.made.shape[0] == 4
        torch.testing.assert_close(codec.decode(found.made[None])[0], wave)


def test_rows_are_the_same_alone_and_together(long_model: AudioLM) -> None:
    together = long_model(batch_size=3, seconds=0.5, filter_thres=0.0)
    for seed, wave in enumerate(together):
        assert torch.equal(long_model(seconds=0.5, seed=seed, filter_thres=0.0)[0], wave)
    assert not torch.equal(together[0], together[1])


@pytest.fixture
def spoken_model(wav2vec: Any, codec: Any) -> AudioLM:
    """As long_model, but repeated ids are removed."""
    return AudioLM(wav2vec=wav2vec, codec=codec, **windowed(stages(wav2vec), 0.4, 0.2, 0.1))


@pytest.mark.parametrize("seconds", [0.25, 0.5])
def test_without_repeated_ids_a_sound_may_be_longer_than_a_window_too(spoken_model: AudioLM, seconds: float) -> None:
    """[2.2: ids without repeats cannot be cut by time; 2.16]"""
    prompt = torch.randn(1, 160 * 15, generator=torch.Generator().manual_seed(1)) * 0.1
    more = {"seconds": seconds, "filter_thres": 0.0}
    together = spoken_model(batch_size=2, prime_wave=prompt, **more)  # type: ignore[arg-type]
    for seed, wave in enumerate(together):
        assert wave.shape == (1, 160 * 15 + -(-round(seconds * RATE) // 160) * 160)
        assert torch.equal(spoken_model(seed=seed, prime_wave=prompt, **more)[0], wave)  # type: ignore[arg-type]
    [free] = spoken_model(seconds=seconds)
    assert free.shape == (1, -(-round(seconds * RATE) // 160) * 160)


def test_a_window_reads_on_from_where_the_plan_has_been_spoken_to(
    spoken_model: AudioLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the speech model hears is chosen here: every planned id lasts two frames, whatever was made of it."""
    request = Request([0], seconds=0.6)
    [row] = finish(spoken_model._semantic(spoken_model._begun(request), request))
    plan, read, heard = row.semantic, list[torch.Tensor](), 0
    real = audiolm_pipeline.decode

    def hear(sound: torch.Tensor) -> torch.Tensor:
        nonlocal heard
        frames, before = sound.shape[-1] // 320, heard  # 16 kHz
        heard += frames
        return plan.repeat_interleave(2)[before:heard][None]

    def spy(stage: Any, items: Any, *more: Any, **named: Any) -> Any:
        read.extend(item.prefix for item in items)
        return real(stage, items, *more, **named)

    monkeypatch.setattr(spoken_model.parts.tokenizer, "forward", hear)
    monkeypatch.setattr(audiolm_pipeline, "decode", spy)
    [row] = finish(spoken_model._coarse([row], request))
    assert row.made.shape == (2, 30)
    starts = [0, 7, 14, 21]  # windows of 10 frames that keep 3
    assert len(read) == len(starts)
    for start, words in zip(starts, read, strict=True):
        place = max(0, start - 1) // 2  # of the id that the last frame before the window belongs to
        assert torch.equal(words, plan[place : place + min(10, 30 - start)])


def test_drafts_change_nothing_that_is_certain(wav2vec: Any, codec: Any, long_model: AudioLM) -> None:
    """Greedily the ids are the same; and a row is itself in any batch."""
    small = stages(wav2vec, unique=False, dim=8)
    drafts = [small["semantic_transformer"], small["coarse_transformer"], small["fine_transformer"]]
    fast = AudioLM(wav2vec, codec, *long_model.parts.all, drafts=drafts)
    more = {"seconds": 0.3, "temperatures": (0.0, 0.0, 0.0)}
    assert torch.equal(fast(**more)[0], long_model(**more)[0])  # type: ignore[arg-type]
    for seed, wave in enumerate(fast(batch_size=2, seconds=0.3)):
        assert torch.equal(fast(seconds=0.3, seed=seed)[0], wave)


def test_rows_that_end_early_are_waves_of_their_own_length(wav2vec: Any, codec: Any) -> None:
    """[7]"""
    model = AudioLM(wav2vec=wav2vec, codec=codec, **stages(wav2vec))
    lengths = [wave.shape[1] for wave in model(batch_size=8, filter_thres=0.0)]
    assert len(set(lengths)) > 1 and max(lengths) < 10 * RATE


def test_a_stereo_file_of_any_rate_is_one_recording(long_model: AudioLM, tmp_path: Path) -> None:
    """[21: a stereo prompt is taken for a batch of two, and a prompt is not repeated for the batch]"""
    audio.write(tmp_path / "prompt.wav", torch.randn(2, 4_410) * 0.1, 44_100)
    waves = long_model(prime_wave_path=tmp_path / "prompt.wav", batch_size=3, seconds=0.1)
    assert [wave.shape for wave in waves] == [(1, 800 + 800)] * 3
    with pytest.raises(AudioError, match="there is no such file"):
        long_model(prime_wave_path=tmp_path / "none.wav")


def test_coarse_alone_gives_a_wave_of_the_same_length(long_model: AudioLM) -> None:
    [coarse] = long_model(seconds=0.3, return_coarse_generated_wave=True)
    [whole] = long_model(seconds=0.3)
    assert coarse.shape == whole.shape and not torch.equal(coarse, whole)


def test_one_stage_makes_all_codebooks(wav2vec: Any, codec: Any) -> None:
    parts = stages(wav2vec, unique=False)
    parts["coarse_transformer"] = CoarseAndFineTransformer(
        num_semantic_tokens=12, codebook_size=16, num_quantizers=4, level_dim=8, unique_consecutive=False, **SIZES
    )
    del parts["fine_transformer"]
    for stage in parts.values():
        stage.config = dataclasses.replace(stage.config, window_seconds=0.2)
    model = AudioLM(wav2vec=wav2vec, codec=codec, **parts)
    prompt = torch.randn(1, 800) * 0.1
    waves = model(prime_wave=prompt, batch_size=2, seconds=0.4, filter_thres=0.0)
    for seed, wave in enumerate(waves):
        assert 800 < wave.shape[1] <= 4_000 and wave.isfinite().all()
        assert torch.equal(model(prime_wave=prompt, seconds=0.4, seed=seed, filter_thres=0.0)[0], wave)
    request = Request([0], prompts=[prompt], seconds=0.4)
    [row] = finish(model._coarse(finish(model._semantic(model._begun(request), request)), request))
    assert torch.equal(row.made[:, :5], codec.encode(prompt[None])[0]) and row.made.shape[0] == 4


@pytest.mark.parametrize("whole", [False, True])
def test_the_groups_of_a_codec_have_positions_of_their_own(
    wav2vec: Any, trained_soundstream: Path, sounds: Path, tmp_path: Path, whole: bool
) -> None:
    """[1.13: positions with grouped RVQ; 24]"""
    soundstream = SoundStream.init_and_load_from(trained_soundstream)
    common = {"codebook_size": 16, "rq_groups": 2} | SIZES
    words = {"num_semantic_tokens": 12}
    coarse = (
        CoarseAndFineTransformer(num_quantizers=8, level_dim=8, **words, **common)
        if whole
        else CoarseTransformer(num_coarse_quantizers=4, **words, **common)
    )
    fine = None if whole else FineTransformer(num_coarse_quantizers=4, num_fine_quantizers=4, **common)
    more = {"folder": sounds, "num_train_steps": 1, "batch_size": 1, "data_max_length_seconds": 0.2}
    CoarseTransformerTrainer(coarse, wav2vec=wav2vec, codec=soundstream, results_folder=tmp_path / "c", **more).train()
    if fine is not None:
        FineTransformerTrainer(fine, codec=soundstream, results_folder=tmp_path / "f", **more).train()
        places = fine._places(Piece(1, 0, torch.zeros(1, 8).long(), False))
        assert [part.tolist() for part in places[1:]] == [[0] * 4 + [1] * 4, [2, 2, 3, 3] * 2, [0, 1, 0, 1] * 2]
    model = AudioLM(wav2vec, soundstream, SemanticTransformer(**words, **SIZES), coarse, fine)
    for alone in (False, True):
        [wave] = model(prime_wave=torch.randn(1, 640) * 0.1, seconds=0.1, return_coarse_generated_wave=alone)
        assert wave.shape[1] % 320 == 0 and wave.shape[1] > 640 and wave.isfinite().all()
    three = CoarseTransformer(num_coarse_quantizers=3, **words, **(common | {"rq_groups": 3}))
    with pytest.raises(InputError, match="change rq_groups"):
        CoarseTransformerTrainer(three, wav2vec=wav2vec, codec=soundstream, results_folder=tmp_path / "x", **more)
    with pytest.raises(ValueError, match="as many codebooks of each group"):
        CoarseTransformer(num_coarse_quantizers=3, **words, **common)


def test_progress_grows_to_the_length(long_model: AudioLM) -> None:
    steps = list(long_model.generate(Request([0, 1], seconds=0.5)))
    done = [step.done_frames for step in steps]
    assert done == sorted(done) and steps[-1].total_frames == 25 and done[-1] >= 24


def test_every_stage_has_its_temperature() -> None:
    assert TEMPERATURES == {"speech": (0.6, 0.8, 0.6), "music": (1.0, 0.95, 0.4)}


def test_what_does_not_fit_is_refused(wav2vec: Any, codec: Any, long_model: AudioLM) -> None:
    """[24: the seed compares with a number of codebooks that leaves out groups]"""
    parts = stages(wav2vec)
    with pytest.raises(ModelError, match="change the two"):
        AudioLM(wav2vec, codec, parts["coarse_transformer"], parts["semantic_transformer"], parts["fine_transformer"])
    more = FineTransformer(codebook_size=16, num_coarse_quantizers=2, num_fine_quantizers=3, **SIZES)
    with pytest.raises(ModelError, match="build them to fit"):
        AudioLM(wav2vec, codec, parts["semantic_transformer"], parts["coarse_transformer"], more)
    other = SemanticTransformer(num_semantic_tokens=13, **SIZES)
    with pytest.raises(ModelError, match="13 semantic ids"):
        AudioLM(wav2vec, codec, other, parts["coarse_transformer"], parts["fine_transformer"])
    mixed = stages(wav2vec, unique=False)["semantic_transformer"]
    with pytest.raises(ModelError, match="removes repeated ids"):
        AudioLM(wav2vec, codec, mixed, parts["coarse_transformer"], parts["fine_transformer"])
    with pytest.raises(InputError, match="positive"):
        long_model(seconds=0.0)
    with pytest.raises(AudioError, match="shorter than a frame"):
        long_model(prime_wave=torch.randn(1, 100))
    with pytest.raises(InputError, match="fills the window"):
        long_model(prime_wave=torch.randn(1, 4_000))


def test_the_text_is_heard_and_the_scale_pulls(wav2vec: Any, codec: Any, tiny_model: Path) -> None:
    """[1: guidance is a no-op where generate() has computed the embeddings]"""
    heard = {"t5_name": str(tiny_model / "text"), "has_condition": True}
    model = AudioLM(wav2vec=wav2vec, codec=codec, **windowed(stages(wav2vec, unique=False, **heard), 0.4, 0.2, 0.1))
    more = {"seconds": 0.3, "filter_thres": 0.0, "temperatures": (1.0, 1.0, 1.0)}
    asked = [("rain", 1.0), ("rain", 20.0), ("dog barking", 20.0)]
    waves = [model(text=[words], cond_scale=scale, **more)[0] for words, scale in asked]  # type: ignore[arg-type]
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(waves, 2))


def test_one_text_and_one_prompt_are_for_all_rows(long_model: AudioLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """[21: a prompt is not repeated for the batch]"""
    asked = list[Request]()
    monkeypatch.setattr(audiolm_pipeline, "finish", lambda steps: None)
    monkeypatch.setattr(long_model, "generate", asked.append)
    long_model(text=["rain"], prime_wave=torch.zeros(1, 800), batch_size=3)
    assert asked[0].texts == ["rain"] * 3 and asked[0].prompts is not None and len(asked[0].prompts) == 3


def other_codec(**more: Any) -> SoundStream:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"channels": 2, "channel_mults": (1, 1, 1, 2), "codebook_dim": 8, "codebook_size": 16}
    return SoundStream(rq_num_quantizers=4, use_local_attn=False, **shape, **more)


@pytest.mark.parametrize(("rate", "starts"), [(8_000, [4, 8, 12]), (24_000, [11, 22, 33])])
def test_ids_and_frames_are_counted_each_at_its_own_rate(
    wav2vec: Any, monkeypatch: pytest.MonkeyPatch, rate: int, starts: list[int]
) -> None:
    """[21: a multiple of one rate is applied to both] 50 semantic ids a second, 25 or 75 frames."""
    parts = windowed(stages(wav2vec, unique=False), 0.4, 0.2, 0.1)
    model = AudioLM(wav2vec=wav2vec, codec=other_codec(target_sample_hz=rate), **parts)
    request = Request([0], prompts=[torch.randn(1, rate // 5) * 0.1], seconds=0.4)
    [row] = model._begun(request)
    per_second, read = rate / 320, list[torch.Tensor]()
    assert (len(row.semantic), row.codes.shape[1], row.frames) == (10, 0.2 * per_second, 0.6 * per_second)
    [row] = finish(model._semantic([row], request))
    assert len(row.semantic) == 30
    real = audiolm_pipeline.decode

    def spy(stage: Any, items: Any, *more: Any, **named: Any) -> Any:
        read.extend(item.prefix for item in items)
        return real(stage, items, *more, **named)

    monkeypatch.setattr(audiolm_pipeline, "decode", spy)
    [row] = finish(model._coarse([row], request))
    assert row.made.shape == (2, 0.6 * per_second)
    for start, words in zip(starts, read, strict=True):
        end = min(0.6, start / per_second + 0.2)
        assert torch.equal(words, row.semantic[round(50 * start / per_second) : round(50 * end)])


def test_a_stereo_prompt_of_a_stereo_codec_is_one_sound(wav2vec: Any) -> None:
    """[21: a stereo prompt is taken for a batch of two]"""
    model = AudioLM(wav2vec=wav2vec, codec=other_codec(input_channels=2), **stages(wav2vec, unique=False))
    prompt = torch.randn(2, 3_200, generator=torch.Generator().manual_seed(0)) * torch.tensor([[0.02], [0.1]])
    semantic, codes = model._heard(prompt)
    assert codes.shape == (4, 10) and torch.equal(semantic, wav2vec(prompt.mean(dim=0, keepdim=True))[0])


def test_a_stage_hears_all_of_the_text(wav2vec: Any, codec: Any, tiny_model: Path) -> None:
    """[25: the end mark is masked in training and attended to in generation]"""
    heard = {"t5_name": str(tiny_model / "text"), "has_condition": True}
    model = AudioLM(wav2vec=wav2vec, codec=codec, **stages(wav2vec, **heard))
    text = model.parts.text
    assert text is not None
    condition = model._condition(model.parts.semantic, Request([0], ["rain"]), [0])
    assert condition is not None and torch.equal(condition.embedding[0][condition.mask[0]], text.embed_one("rain"))
