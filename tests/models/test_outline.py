import copy
import dataclasses
from pathlib import Path

import pytest
import torch

from audiogen_cli.data.recordings import Recordings
from audiogen_cli.errors import InputError
from audiogen_cli.hub import checkpoint
from audiogen_cli.models.outline import Outline, OutlineConfig
from audiogen_cli.training.codec import CodecLossConfig, CodecRecipe, CodecTask, CodecTrainingConfig
from audiogen_cli.training.loop import LoopConfig, train

SMALL = {"decoder_dim": 8, "decoder_layers": 1, "subframe_dim": 8, "subframe_layers": 1}
CONFIG = OutlineConfig(hop_length=640, subframes=2, n_fft=512, num_mels=16, num_codebooks=3, codebook_size=8, **SMALL)


def tones(count: int = 6, seconds: float = 1.0) -> list[torch.Tensor]:
    """Tones of other pitches, in bursts."""
    time = torch.arange(round(16_000 * seconds)) / 16_000
    gate = (time * 4 % 1 < 0.6).float()
    return [(0.3 * (2 * torch.pi * 200 * (i + 1) * time).sin() * gate)[None] for i in range(count)]


@pytest.fixture(scope="module")
def outline() -> Outline:
    return Outline.fit(tones(), CONFIG, size=120)


def test_a_frame_is_a_hop_and_codes_are_in_range(outline: Outline) -> None:
    codes = outline.encode(torch.randn(2, 1, 1601) * 0.1)
    assert codes.shape == (2, 3, 3)
    assert codes.min() >= 0 and codes.max() < 8


def test_every_level_comes_nearer(outline: Outline) -> None:
    waveform = torch.stack(tones())
    codes, wanted = outline.encode(waveform), outline.patches(waveform)
    distances = []
    for kept in (1, 2, 3):
        found = sum(outline.entries[k][codes[:, k]] for k in range(kept))
        distances.append(float((found - wanted).square().mean()))
    assert distances[0] > distances[1] > distances[2]
    assert distances[0] < 0.5 * float(wanted.var())


def test_fewer_codebooks_are_the_first_ones(outline: Outline) -> None:
    waveform = torch.stack(tones())
    assert outline.encode(waveform, 2).equal(outline.encode(waveform)[:, :2])


def test_it_decodes_to_a_sketch_of_the_sound(outline: Outline) -> None:
    waveform = torch.stack(tones())
    sketch = outline.decode(outline.encode(waveform))
    assert sketch.shape == (6, 1, 16_000)
    found, wanted = outline.patches(sketch), outline.patches(waveform)
    assert (found - wanted).abs().mean() < 0.85 * (found.roll(1, 0) - wanted).abs().mean()


def test_silence_decodes_to_silence() -> None:
    outline = Outline.fit([*tones(), torch.zeros(1, 16_000)], CONFIG, size=140)
    silence = torch.zeros(1, 1, 6400)
    assert outline.decode(outline.encode(silence)).abs().max() < 1e-3


def test_the_context_is_all_that_a_frame_depends_on(outline: Outline) -> None:
    assert outline.encoder_context is not None
    waveform = torch.randn(1, 1, 640 * 12) * 0.1
    other = waveform.clone()
    other[..., 640 * 6 : 640 * 7] = 0.0
    same = (outline.encode(waveform) == outline.encode(other)).all(dim=1)[0]
    far = [frame for frame in range(12) if abs(frame - 6) > outline.encoder_context]
    assert same[far].all()


def test_the_same_seed_fits_the_same(outline: Outline) -> None:
    assert Outline.fit(tones(), CONFIG, size=120).fingerprint() == outline.fingerprint()


def test_too_few_sounds_are_refused() -> None:
    with pytest.raises(InputError, match="too few"):
        Outline.fit([torch.zeros(1, 640)], CONFIG)


def test_a_frame_must_be_whole_subframes() -> None:
    with pytest.raises(ValueError, match="divide hop_length"):
        OutlineConfig(hop_length=1280, subframes=3)


def test_silence_between_sounds_stays_silent(outline: Outline) -> None:
    """Before training the renderer draws straight lines between the bands; nothing there makes a sound of silence."""
    waveform = torch.cat([torch.zeros(1, 6400), tones()[0], torch.zeros(1, 6400)], dim=1)[None]
    latent = outline._latent(outline.patches(waveform))
    decoded = outline.decoder(latent)
    assert decoded[..., 1600:4800].abs().max() < 1e-3
    assert decoded[..., 8000:20_000].std() > 1e-2


def test_decoding_streams(outline: Outline) -> None:
    codes = outline.encode(torch.stack(tones(2, 3.0)))
    whole, state, parts = outline.decode(codes), None, []
    for start in range(0, codes.shape[2], 20):
        part, state = outline.decode_step(codes[:, :, start : start + 20], state, start + 20 >= codes.shape[2])
        parts.append(part)
    assert torch.allclose(torch.cat(parts, dim=2), whole, atol=1e-4)


def test_training_teaches_the_renderer_and_leaves_the_codes(outline: Outline) -> None:
    model = copy.deepcopy(outline)
    waveform = torch.stack(tones())
    before = model(waveform).magnitude.item()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        model(waveform).magnitude.backward()
        optimizer.step()
    assert model(waveform).magnitude.item() < 0.8 * before
    assert model.fingerprint() == outline.fingerprint()
    assert model(waveform, 0).codes.shape == (6, 0, 25)


def test_it_goes_through_the_codecs_trainer(outline: Outline, tmp_path: Path) -> None:
    silent = CodecLossConfig(mel=0.0, stft=0.0, complex=0.0, commitment=0.0, magnitude=1.0)
    config = CodecTrainingConfig(seconds=0.5, codebook_choices=(0, 3), codebook_odds=(0.5, 0.5), losses=silent)
    loop = LoopConfig(steps=2, batch_size=2, evaluate_every=2, save_every=2, precision="fp32", workers=0)
    recipe = CodecRecipe(training=dataclasses.replace(config, adversarial_start=100), loop=loop)
    recordings = Recordings([(tone * 20_000).to(torch.int16) for tone in tones()])
    task = CodecTask(recipe, recordings, tones(2), {}, copy.deepcopy(outline))
    reports = [report.kind for report in train(task, loop, tmp_path, {})]
    assert "evaluate" in reports
    assert checkpoint.load(tmp_path / "model").fingerprint() == outline.fingerprint()  # type: ignore[operator]
