from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audiogen_cli.data import audio
from audiogen_cli.data.manifest import Clip
from audiogen_cli.errors import InputError
from audiogen_cli.hub import checkpoint
from audiogen_cli.models.audiolm import Block, StageConfig
from audiogen_cli.models.semantic import HubertWithKmeans
from audiogen_cli.training.stage_data import (
    FolderSounds,
    Sound,
    Tokenizers,
    TokenSounds,
    crop,
    find_recordings,
    first,
)

STAGES = ("semantic", "coarse", "fine")
RATES = (50.0, 50.0)


def config(stage: str, **more: Any) -> StageConfig:
    blocks = {
        "semantic": (Block("semantic", 12),),
        "coarse": (Block("semantic", 12), Block("acoustic", 16, 2)),
        "fine": (Block("acoustic", 16, 2), Block("acoustic", 16, 2, 2)),
    }
    settings = {"window_seconds": 0.4, "num_heads": 2, "unique_consecutive": False, "residual_streams": 2} | more
    return StageConfig(stage, blocks[stage], 16, 1, **settings)  # type: ignore[arg-type]


def sound(frames: int, seed: int = 0) -> Sound:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 16, (4, frames), generator=generator)
    return Sound(torch.randint(0, 12, (frames,), generator=generator), codes, "a dog")


@pytest.mark.parametrize("stage", STAGES)
def test_a_crop_is_the_same_stretch_of_all_ids_and_knows_its_end(stage: str) -> None:
    whole, ends = sound(50), []
    settings = config(stage)
    for seed in range(60):
        example = crop(whole, settings, RATES, np.random.default_rng(seed))
        block = example.blocks[-1]
        levels = settings.target.num_levels
        assert len(block) % levels == 0 and 10 <= len(block) // levels <= 20
        assert whole.semantic is not None and whole.codes is not None
        codes = whole.codes[settings.target.first_level :][:levels].T.flatten()
        source = whole.semantic if stage == "semantic" else codes
        (start,) = [i for i in range(0, len(source), levels) if torch.equal(source[i : i + len(block)], block)]
        assert example.ends == (start + len(block) == len(source))
        if stage == "coarse":
            assert torch.equal(example.blocks[0], whole.semantic[start // 2 : start // 2 + len(block) // 2])  # type: ignore[index]
        ends.append(example.ends)
    assert 0 < sum(ends) < 60
    assert crop(sound(15), settings, RATES, np.random.default_rng(0)).ends
    assert len(crop(whole, settings, RATES, None).blocks[-1]) == 20 * settings.target.num_levels


def test_repeats_are_removed_after_the_cut() -> None:
    repeated = Sound(torch.arange(10).repeat_interleave(5), None, "")
    example = crop(repeated, config("semantic", unique_consecutive=True), RATES, None)
    assert example.blocks[0].tolist() == [0, 1, 2, 3]


@pytest.fixture
def tokenizers(speech_model: Path, tiny_model: Path) -> Tokenizers:
    codec: Any = checkpoint.load(tiny_model / "codec")
    return Tokenizers(HubertWithKmeans(speech_model, speech_model / "kmeans.safetensors"), codec)


def test_recordings_are_turned_into_ids_once(tokenizers: Tokenizers, tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", torch.randn(2, 24_000) * 0.1, 24_000)
    sounds = FolderSounds([Clip(str(tmp_path / "a.wav"), "noise", 1.0, "a")], tokenizers)
    found = sounds(0)
    assert found.semantic is not None and found.codes is not None
    assert found.semantic.shape == (50,) and found.codes.shape == (4, 50) and found.caption == "noise"
    (tmp_path / "a.wav").unlink()
    assert sounds(0) is found


def test_a_shift_puts_silence_before_the_codes_alone(tokenizers: Tokenizers, tmp_path: Path) -> None:
    waveform = 0.1 * torch.randn(1, 8_000, generator=torch.Generator().manual_seed(0))
    audio.write(tmp_path / "a.wav", waveform, 8_000)
    sounds = FolderSounds([Clip(str(tmp_path / "a.wav"), "noise", 1.0, "a")], tokenizers)
    plain, shifted = sounds(0), sounds(0, 0.5)
    assert plain.semantic is not None and shifted.semantic is not None
    assert plain.codes is not None and shifted.codes is not None
    assert torch.equal(plain.semantic, shifted.semantic)
    assert shifted.codes.shape[1] == plain.codes.shape[1] + 1
    padded = torch.cat([torch.zeros(1, 80), audio.read(tmp_path / "a.wav").waveform], dim=1)
    assert torch.equal(shifted.codes, tokenizers(padded, 8_000, "").codes)
    assert sounds(0, 0.5) is shifted and sounds(0) is plain


def test_prepared_ids_are_the_ids_of_the_recordings(tokenizers: Tokenizers, tmp_path: Path) -> None:
    from audiogen_cli.models.decoding import finish
    from audiogen_cli.pipelines.prepare import prepare

    (tmp_path / "sounds").mkdir()
    for name in ("rain", "bell"):
        audio.write(tmp_path / f"sounds/{name}.wav", torch.randn(1, 8_000) * 0.1, 8_000)
    folder = tmp_path / "ids"
    semantic: Any = tokenizers.semantic
    finish(prepare(tmp_path / "sounds", folder, codec=tokenizers.codec, fraction=0.0))
    finish(prepare(tmp_path / "sounds", folder / "semantic", codec=semantic, fraction=0.0))
    live_and_prepared = FolderSounds([], tokenizers), TokenSounds(folder, tokenizers, "train")
    live_and_prepared[0].clips = live_and_prepared[1].clips
    assert len(live_and_prepared[1]) == 2
    for index in range(2):
        mine, theirs = (sounds(index) for sounds in live_and_prepared)
        assert torch.equal(mine.semantic, theirs.semantic) and torch.equal(mine.codes, theirs.codes)  # type: ignore[arg-type]
        assert mine.caption == theirs.caption
    with pytest.raises(InputError, match="no recordings of this split"):
        first(TokenSounds(folder, tokenizers, "valid"))
    with pytest.raises(InputError, match="are those of"):
        TokenSounds(folder / "semantic", Tokenizers(codec=tokenizers.codec), "train")


def test_recordings_without_captions_are_recordings(tmp_path: Path) -> None:
    for name in ("004ac4b1cfda", "bell"):
        audio.write(tmp_path / f"{name}.wav", torch.zeros(1, 800), 8_000)
    assert [clip.caption for clip in find_recordings(tmp_path)] == ["", "bell"]
    with pytest.raises(InputError, match="not a folder"):
        find_recordings(tmp_path / "none")


def test_a_stereo_recording_is_one_sound(tokenizers: Tokenizers) -> None:
    """[21: a stereo sound is taken for a batch of two]"""
    stereo = torch.randn(2, 8_000, generator=torch.Generator().manual_seed(0)) * torch.tensor([[0.02], [0.1]])
    both, mono = (tokenizers(sound, 8_000, "") for sound in (stereo, stereo.mean(dim=0, keepdim=True)))
    assert both.semantic is not None and both.codes is not None
    assert torch.equal(both.semantic, mono.semantic) and torch.equal(both.codes, mono.codes)  # type: ignore[arg-type]
