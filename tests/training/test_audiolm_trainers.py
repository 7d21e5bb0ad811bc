"""What the trainers do beside the README's programs, which tests/pipelines/test_audiolm.py runs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from audiogen_cli.data import audio
from audiogen_cli.errors import InputError, OutputError
from audiogen_cli.hub import checkpoint
from audiogen_cli.hub.soundstream import SoundStream
from audiogen_cli.models.audiolm import Stage
from audiogen_cli.models.semantic import HubertWithKmeans
from audiogen_cli.models.stages import CoarseTransformer, SemanticTransformer
from audiogen_cli.training.audiolm_trainers import CoarseTransformerTrainer, DatasetSounds, SemanticTransformerTrainer
from audiogen_cli.training.stage_data import Tokenizers

SIZES = {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8}
ONE = {"num_train_steps": 1, "batch_size": 1}


@pytest.fixture(scope="module")
def wav2vec(speech_model: Path) -> HubertWithKmeans:
    return HubertWithKmeans(speech_model, speech_model / "kmeans.safetensors")


@pytest.fixture(scope="module")
def codec(tiny_model: Path) -> Any:
    return checkpoint.load(tiny_model / "codec")


def semantic() -> SemanticTransformer:
    return SemanticTransformer(num_semantic_tokens=12, **SIZES)


def waves(count: int = 3) -> list[torch.Tensor]:
    return [torch.randn(6_400, generator=torch.Generator().manual_seed(i)) * 0.1 for i in range(count)]


def test_two_trainers_live_in_one_process_and_none_asks(wav2vec: Any, tmp_path: Path) -> None:
    """[19: one trainer per process by a global flag; an interactive question before results are removed]"""
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        SemanticTransformerTrainer(semantic(), wav2vec=wav2vec, dataset=waves(), results_folder=folder, **ONE).train()
    assert all((folder / "model/model.safetensors").is_file() for folder in folders)
    again = SemanticTransformerTrainer(semantic(), wav2vec=wav2vec, dataset=waves(), results_folder=folders[0], **ONE)
    with pytest.raises(OutputError, match="already holds a training run"):
        again.train()


def test_a_trained_stage_computes_in_float32_again(wav2vec: Any, tmp_path: Path) -> None:
    stage = semantic()
    more = {"results_folder": tmp_path, "precision": "bf16"} | ONE
    try:
        SemanticTransformerTrainer(stage, wav2vec=wav2vec, dataset=waves(), **more).train()
    except ValueError:  # Accelerate holds one precision for a whole process, and another test may have chosen
        pytest.skip("this process computes in another precision")
    same = Stage(stage.config).eval()
    same.load_state_dict(stage.state_dict())
    ids = [torch.tensor([[1, 2, 3, 4]])]
    assert torch.equal(stage(ids)[0], same(ids)[0]) and not stage.training


@pytest.mark.parametrize("seconds", [0.25, 1])
def test_the_crop_may_be_given_in_seconds_of_any_number_type(wav2vec: Any, tmp_path: Path, seconds: float) -> None:
    """[17: a float of seconds makes a float length, which is refused later]"""
    trainer = SemanticTransformerTrainer(
        semantic(), wav2vec=wav2vec, dataset=waves(), data_max_length_seconds=seconds, results_folder=tmp_path, **ONE
    )
    assert trainer.transformer.config.window_seconds == seconds
    assert trainer.transformer.config.semantic == wav2vec.fingerprint()


def test_recordings_without_captions_are_recordings(wav2vec: Any, tmp_path: Path) -> None:
    for index, wave in enumerate(waves()):
        audio.write(tmp_path / f"{index}.wav", wave[None], 16_000)
    trainer = SemanticTransformerTrainer(semantic(), wav2vec=wav2vec, folder=tmp_path, **ONE)
    assert trainer.task.count == 3


def test_one_wave_is_resampled_for_both_and_two_are_told_apart_by_their_length(wav2vec: Any, codec: Any) -> None:
    """[1.13: text-conditioned coarse training where the wave comes at two rates]"""
    [wave] = waves(1)
    low = audio.resample(wave[None], 16_000, 8_000)[0]
    parts = Tokenizers(wav2vec, codec)
    one = DatasetSounds([("rain", wave)], parts)(0)
    for item in ((wave, low, "rain"), (low, "rain", wave)):
        two = DatasetSounds([item], parts)(0)
        assert two.caption == "rain"
        assert torch.equal(two.semantic, one.semantic) and torch.equal(two.codes, one.codes)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="one or two waveforms"):
        DatasetSounds(["rain"], parts)(0)


class Captioned(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """The seed's fields: caption, the sound for the speech model, the same for the codec, in any order."""

    def __init__(self, low: list[torch.Tensor], high: list[torch.Tensor]) -> None:
        self.low, self.high = low, high

    def __len__(self) -> int:
        return len(self.low)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        item = (("rain", "dog barking", "bell")[index], self.low[index], self.high[index])
        return item if index % 2 else item[::-1]


def test_a_coarse_stage_that_reads_text_learns_from_one_sound_at_two_rates(
    wav2vec: Any, tiny_model: Path, tmp_path: Path
) -> None:
    """[1.13] 16 kHz and 50 ids a second for the speech model, 24 kHz and 75 frames a second for the codec: a folder,
    one wave and two waves give the same ids, and a crop is the same stretch of both."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {"channels": 2, "channel_mults": (1, 1, 1, 2), "codebook_dim": 8, "codebook_size": 16}
    codec = SoundStream(target_sample_hz=24_000, rq_num_quantizers=4, use_local_attn=False, **shape)
    high = [torch.randn(24_000, generator=torch.Generator().manual_seed(i)) * 0.1 for i in range(3)]
    (tmp_path / "sounds").mkdir()
    for name, wave in zip(("rain", "dog barking", "bell"), high, strict=True):
        audio.write(tmp_path / f"sounds/{name}.wav", wave[None], 24_000)
    high = [audio.read(tmp_path / f"sounds/{name}.wav").waveform[0] for name in ("rain", "dog barking", "bell")]
    low = [audio.resample(wave[None], 24_000, 16_000)[0] for wave in high]
    sources: tuple[dict[str, Any], ...] = (
        {"dataset": Captioned(low, high)},
        {"dataset": list(zip(("rain", "dog barking", "bell"), high, strict=True))},
        {"folder": tmp_path / "sounds", "valid_frac": 0.0},
    )
    text = {"t5_name": str(tiny_model / "text"), "has_condition": True, "cond_drop_prob": 0.0}
    found = []
    for number, source in enumerate(sources):
        torch.manual_seed(0)
        coarse = CoarseTransformer(
            num_semantic_tokens=12, codebook_size=16, num_coarse_quantizers=2, unique_consecutive=False, **text, **SIZES
        )
        more = {"data_max_length_seconds": 0.4, "num_train_steps": 1, "batch_size": 3}
        trainer = CoarseTransformerTrainer(
            coarse, wav2vec=wav2vec, codec=codec, results_folder=tmp_path / str(number), **source, **more
        )
        assert trainer.task.rates == (50.0, 75.0)
        sounds = sorted((trainer.task.sounds(i) for i in range(3)), key=lambda sound: sound.caption)
        found.append(sounds)
        assert [len(sound.semantic) for sound in sounds] == [50] * 3  # type: ignore[arg-type]
        assert [sound.codes.shape for sound in sounds] == [(4, 75)] * 3  # type: ignore[union-attr]
        batch = trainer.task.batch(0)
        assert batch.condition is not None and batch.condition.mask.any(1).all()
        for semantic, codes, ends in zip(*batch.blocks, batch.ends, strict=True):
            ids, frames = int((semantic >= 0).sum()), int((codes >= 0).sum()) // 2
            assert abs(ids / 50 - frames / 75) <= 1 / 50 and (frames == 30 or ends)
        trainer.train()
        assert (tmp_path / str(number) / "model/model.safetensors").is_file()
    for sounds in found[1:]:
        for mine, theirs in zip(sounds, found[0], strict=True):
            assert mine.caption == theirs.caption
            assert torch.equal(mine.semantic, theirs.semantic) and torch.equal(mine.codes, theirs.codes)


def test_what_is_missing_is_asked_for(wav2vec: Any, tmp_path: Path) -> None:
    coarse = CoarseTransformer(num_semantic_tokens=12, codebook_size=16, num_coarse_quantizers=2, **SIZES)
    with pytest.raises(InputError, match="give codec and either folder or dataset"):
        CoarseTransformerTrainer(coarse, wav2vec=wav2vec, **ONE)
    with pytest.raises(InputError, match="not a folder"):
        SemanticTransformerTrainer(semantic(), wav2vec=wav2vec, folder=tmp_path / "none", **ONE)


def test_generated_ids_begin_with_the_prompt(wav2vec: Any, tmp_path: Path) -> None:
    trainer = SemanticTransformerTrainer(semantic(), wav2vec=wav2vec, dataset=waves(), results_folder=tmp_path, **ONE)
    rows = trainer.generate(prime_ids=torch.tensor([[1, 2, 3]]), batch_size=2, max_length=9)
    assert [row[:3].tolist() for row in rows] == [[1, 2, 3]] * 2 and all(3 <= len(row) <= 9 for row in rows)


def test_the_scale_of_generate_pulls(wav2vec: Any, tiny_model: Path, tmp_path: Path) -> None:
    """[1: guidance is a no-op where generate() has computed the embeddings]"""
    torch.manual_seed(0)
    heard = {"t5_name": str(tiny_model / "text"), "has_condition": True}
    stage = SemanticTransformer(num_semantic_tokens=12, **heard, **SIZES)
    trainer = SemanticTransformerTrainer(stage, wav2vec=wav2vec, dataset=[("rain", w) for w in waves()], **ONE)
    rows = [trainer.generate(text=["rain"] * 4, max_length=12, cond_scale=scale, filter_thres=0.0) for scale in (1, 20)]
    assert any(not torch.equal(one, other) for one, other in zip(*rows, strict=True))


def test_a_length_in_samples_counts_at_the_higher_rate(wav2vec: Any, codec: Any) -> None:
    """[21: a multiple of one rate is applied to both] 16 kHz for the speech model, 8 kHz for the codec."""
    coarse = CoarseTransformer(num_semantic_tokens=12, codebook_size=16, num_coarse_quantizers=2, **SIZES)
    CoarseTransformerTrainer(coarse, wav2vec=wav2vec, codec=codec, dataset=waves(), data_max_length=6_400, **ONE)
    assert coarse.config.window_seconds == 0.4


def test_a_run_is_kept_with_its_recipe(wav2vec: Any, tmp_path: Path) -> None:
    """[19: hyper-parameters are dropped]"""
    more = {"dataset": waves(), "results_folder": tmp_path, "lr": 0.003} | ONE
    SemanticTransformerTrainer(semantic(), wav2vec=wav2vec, **more).train()
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    assert recipe["loop"]["learning_rate"] == 0.003 and recipe["model"]["dim"] == 16
