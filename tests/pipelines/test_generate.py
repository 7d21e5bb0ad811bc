"""Prompt to waveform, in windows; and what follows a recording."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from audiogen_cli.conditioners.melody import loudest_bins
from audiogen_cli.data import audio
from audiogen_cli.errors import AudioError, InputError
from audiogen_cli.hub import catalog
from audiogen_cli.hub.catalog import Model
from audiogen_cli.models.decoding import decode, finish
from audiogen_cli.models.flow import Flow
from audiogen_cli.models.flow_decoding import integrate
from audiogen_cli.pipelines import generate as pipeline
from audiogen_cli.pipelines.generate import continue_audio, generate, joined, tune_of, window_seed, windows

RAW: dict[str, Any] = {"normalize": "none", "fade": 0.0}


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return catalog.load(tiny_model)


def test_a_sound_is_as_long_as_asked(model: Model) -> None:
    for seconds in (0.1, 0.333, 1.0, 2.51):
        [waveform] = finish(generate(model, ["rain"], seconds, [1]))
        assert waveform.shape == (1, round(seconds * 8000))


def test_a_batch_is_its_items_to_the_bit(model: Model) -> None:
    prompts = ["rain", "a dog barking in the rain", "sea " * 40]
    together = finish(generate(model, prompts, 1.7, [1, 2, 3]))
    for prompt, seed, waveform in zip(prompts, [1, 2, 3], together, strict=True):
        [alone] = finish(generate(model, [prompt], 1.7, [seed]))
        assert torch.equal(alone, waveform)


def test_prompt_and_seed_each_change_the_sound(model: Model) -> None:
    rain, dog, other = finish(generate(model, ["rain", "dog", "rain"], 0.5, [1, 1, 2]))
    assert not torch.equal(rain, dog)
    assert not torch.equal(rain, other)


def test_raw_samples_are_the_decoders(model: Model) -> None:
    """Within one window: the codes of `decode` with the first window's seed, decoded."""
    [waveform] = finish(generate(model, ["rain"], 0.5, [3], **RAW))
    seeds = [window_seed(3, 0)]
    codes = finish(decode(model.lm, model.text(["rain"]), 25, seeds, model.sampling, lanes=model.card.lanes))
    with torch.inference_mode():
        assert torch.equal(waveform, model.codec.decode(codes)[0])


def test_normalization_and_fade_only_shape_the_level(model: Model) -> None:
    [raw] = finish(generate(model, ["rain"], 0.5, [3], **RAW))
    [shaped] = finish(generate(model, ["rain"], 0.5, [3], normalize="peak", fade=0.05))
    gain = shaped[0, 1000] / raw[0, 1000]
    torch.testing.assert_close(shaped[:, 500:-500], raw[:, 500:-500] * gain)
    assert shaped[0, 0].abs() < 1e-3 and shaped.abs().max() <= 0.9


@pytest.mark.parametrize(
    ("total", "window", "stride", "expected"),
    [
        (30, 50, 25, [(0, 30)]),
        (50, 50, 25, [(0, 50)]),
        (51, 50, 25, [(0, 50), (25, 51)]),
        (100, 50, 25, [(0, 50), (25, 75), (50, 100)]),
        (60, 50, 5, [(0, 50), (5, 55), (10, 60)]),
    ],
)
def test_windows_overlap_by_window_minus_stride(
    total: int, window: int, stride: int, expected: list[tuple[int, int]]
) -> None:
    assert list(windows(total, window, stride)) == expected


def test_a_longer_sound_starts_as_its_first_window(model: Model) -> None:
    """The first window is full in both, so its frames are the same codes; the decoder hears a little ahead."""
    [short] = finish(generate(model, ["rain"], 1.0, [1], **RAW))
    [long] = finish(generate(model, ["rain"], 2.6, [1], **RAW))
    assert torch.equal(long[:, :6000], short[:, :6000])


def test_each_window_hears_the_end_of_the_last_and_draws_its_own_noise(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def recorded(lm: Any, condition: Any, frames: int, seeds: Any, sampling: Any, prompt: Any, **rest: Any) -> Any:
        calls.append((frames, list(seeds), None if prompt is None else prompt.shape[2]))
        return (yield from decode(lm, condition, frames, seeds, sampling, prompt, **rest))

    monkeypatch.setattr(pipeline, "decode", recorded)
    finish(generate(model, ["rain"], 1.8, [1], stride_seconds=0.3))
    assert [(frames, prompt) for frames, _, prompt in calls] == [(50, None), (50, 35), (50, 35), (45, 35)]
    assert len({seed for _, [seed], _ in calls}) == 4


def test_progress_goes_from_the_start_to_the_end(model: Model) -> None:
    for steps, total in ((generate(model, ["rain", "dog"], 2.0, [1, 2]), 100), (_continued(model, 1.0), 50)):
        seen = list(steps)
        done = [step.done_frames for step in seen]
        assert done == sorted(done) and done[-1] == total and done[0] <= 2
        assert {step.total_frames for step in seen} == {total}


def _continued(model: Model, seconds: float, **settings: Any) -> Any:
    return continue_audio(model, _noise(1.23, 8000), 8000, "rain", seconds, [1], **settings)


def _noise(seconds: float, sample_rate: int, channels: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(channels, round(seconds * sample_rate), generator=generator)


@pytest.mark.parametrize(("sample_rate", "channels"), [(8000, 1), (16_000, 2), (44_100, 1), (4_000, 3)])
@pytest.mark.parametrize("seconds", [0.15, 2.345])
def test_a_recording_stays_as_it_was_up_to_the_seam(
    model: Model, sample_rate: int, channels: int, seconds: float
) -> None:
    recording = _noise(seconds, sample_rate, channels)
    [waveform] = finish(continue_audio(model, recording, sample_rate, "rain", 1.2, [1], fade=5.0))
    length = recording.shape[1]
    assert waveform.shape == (channels, length + round(1.2 * sample_rate))
    assert torch.equal(waveform[:, :length], recording)
    assert waveform[:, length:].std() > 0
    assert waveform[:, -1].abs().max() < 1e-4


def test_there_is_no_step_at_the_seam(model: Model) -> None:
    """A recording that ends high goes on high: the first new sample is near the last old one."""
    recording = torch.full((1, 8000), 0.8)
    [waveform] = finish(continue_audio(model, recording, 8000, "", 0.5, [1]))
    assert abs(float(waveform[0, 8000] - waveform[0, 7999])) < 0.05


def test_new_sound_is_what_the_codec_decodes_after_the_recordings_codes(model: Model) -> None:
    [waveform] = finish(_continued(model, 0.5, fade=0.0))
    tail = _noise(1.23, 8000)[:, -25 * 160 :]  # half of the window of 50 frames, ending where the recording ends
    with torch.inference_mode():
        prompt = model.codec.encode(tail[None], 3)
        seeds = [window_seed(1, 0)]
        codes = finish(decode(model.lm, model.text(["rain"]), 50, seeds, model.sampling, prompt, lanes=2))
        expected = model.codec.decode(codes)[0, :, 25 * 160 :]
    assert torch.equal(codes[:, :, :25], prompt)
    assert torch.equal(waveform[:, -len(expected[0]) + 80 :], expected[:, 80:])


def test_continuations_do_not_depend_on_their_batch(model: Model) -> None:
    recording = _noise(1.23, 8000)
    together = finish(continue_audio(model, recording, 8000, "rain", 0.5, [1, 2, 3]))
    [alone] = finish(continue_audio(model, recording, 8000, "rain", 0.5, [3]))
    assert torch.equal(together[2], alone)


@pytest.fixture(scope="module")
def flowing(flow_model: Path) -> Model:
    return catalog.load(flow_model)


def test_a_flow_makes_latents_and_the_codec_their_sound(flowing: Model) -> None:
    [waveform] = finish(generate(flowing, ["rain"], 0.5, [3], **RAW))
    assert isinstance(flowing.maker, Flow)
    latents = finish(integrate(flowing.maker, flowing.text(["rain"]), 25, [window_seed(3, 0)], flowing.sampling))
    with torch.inference_mode():
        assert torch.equal(waveform, flowing.codec.sound_of(latents)[0])


def test_sounds_of_a_flow_are_as_long_as_asked_and_do_not_depend_on_their_batch(flowing: Model) -> None:
    prompts = ["rain", "a dog barking in the rain", None]
    together = finish(generate(flowing, prompts, 2.51, [1, 2, 3]))
    for prompt, seed, waveform in zip(prompts, [1, 2, 3], together, strict=True):
        [alone] = finish(generate(flowing, [prompt], 2.51, [seed]))
        assert torch.equal(alone, waveform) and waveform.shape == (1, 20_080)


def test_a_flow_goes_on_from_the_recordings_latents(flowing: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts: list[torch.Tensor | None] = []

    def recorded(flow: Any, condition: Any, frames: int, seeds: Any, sampling: Any, prompt: Any, **how: Any) -> Any:
        prompts.append(prompt)
        return (yield from integrate(flow, condition, frames, seeds, sampling, prompt, **how))

    monkeypatch.setattr(pipeline, "integrate", recorded)
    recording = _noise(1.23, 8000)
    [waveform] = finish(continue_audio(flowing, recording, 8000, "rain", 0.8, [1]))
    assert torch.equal(waveform[:, : recording.shape[1]], recording)
    assert waveform.shape == (1, recording.shape[1] + 6_400)
    first, second = prompts
    assert first is not None and second is not None
    with torch.inference_mode():
        assert torch.equal(first, flowing.codec.latents(recording[None, :, -25 * 160 :]))
    assert second.shape[2] == 25


@pytest.fixture(scope="module")
def painted(painted_model: Path) -> Model:
    return catalog.load(painted_model)


def test_a_flow_paints_over_what_the_language_model_draws(painted: Model, model: Model) -> None:
    [waveform] = finish(generate(painted, ["rain"], 0.5, [3], **RAW))
    [drawn] = finish(generate(model, ["rain"], 0.5, [3], **RAW))
    assert painted.painter is not None and not torch.equal(waveform, drawn)
    text = painted.text(["rain"])
    codes = finish(decode(painted.lm, text, 25, [window_seed(3, 0)], painted.sampling, lanes=2))
    sketch = painted.codec.latents_of(codes)
    latents = finish(integrate(painted.painter, text, 25, [window_seed(3, -1)], painted.sampling, sketch=sketch))
    with torch.inference_mode():
        assert torch.equal(waveform, painted.codec.sound_of(latents)[0])


def test_what_is_painted_over_is_drawn_with_a_share_of_the_guidance(painted: Model) -> None:
    painter = painted.painter
    assert painter is not None
    config, text = painter.config, painted.text(["rain"])
    for sketching, guidance in ((1.0, 2.0), (0.5, 1.5), (0.0, 1.0)):
        painter.config = dataclasses.replace(config, sketching=sketching, sketched=1.0)  # nothing is left to paint
        sampling = dataclasses.replace(painted.sampling, guidance=2.0)
        [waveform] = finish(generate(painted, ["rain"], 0.5, [3], sampling, **RAW))
        sampling = dataclasses.replace(sampling, guidance=guidance)
        codes = finish(decode(painted.lm, text, 25, [window_seed(3, 0)], sampling, lanes=2))
        with torch.inference_mode():
            sketch = painted.codec.sound_of(painted.codec.latents_of(codes))[0]
        torch.testing.assert_close(waveform, sketch, rtol=1e-3, atol=1e-4 * float(sketch.abs().max()))
    painter.config = config


def test_painted_sounds_do_not_depend_on_their_batch(painted: Model) -> None:
    prompts = ["rain", "a dog barking in the rain"]
    together = finish(generate(painted, prompts, 1.7, [1, 2]))
    for prompt, seed, waveform in zip(prompts, [1, 2], together, strict=True):
        assert torch.equal(finish(generate(painted, [prompt], 1.7, [seed]))[0], waveform)
    [waveform] = finish(_continued(painted, 1.2))
    assert waveform.shape == (1, 9_840 + 9_600) and torch.equal(waveform[:, :9_840], _noise(1.23, 8000))
    done = [step.done_frames for step in generate(painted, ["rain", "dog"], 2.0, [1, 2])]
    assert done == sorted(done) and done[-1] == 100


def test_progress_of_a_flow_goes_from_the_start_to_the_end(flowing: Model) -> None:
    for steps, total in ((generate(flowing, ["rain", "dog"], 2.0, [1, 2]), 100), (_continued(flowing, 1.0), 50)):
        done = [step.done_frames for step in steps]
        assert done == sorted(done) and done[-1] == total


@pytest.fixture(scope="module")
def hearing(melody_model: Path) -> Model:
    return catalog.load(melody_model)


def _tune(seconds: float, sample_rate: int = 8000, channels: int = 1) -> torch.Tensor:
    """A scale of half a second a note that begins again after seven, [C, N]."""
    time = torch.arange(round(seconds * sample_rate)) / sample_rate
    semitones = torch.tensor([0, 2, 4, 5, 7, 9, 11])[(2 * time).long() % 7]
    return (2 * torch.pi * (261.63 * 2 ** (semitones / 12)).cumsum(0) / sample_rate).sin().expand(channels, -1)


def test_a_melody_is_heard_and_the_batch_is_not(hearing: Model) -> None:
    prompts, melody = ["rain", "a dog barking in the rain", None], (_tune(1.3), 8000)
    together = finish(generate(hearing, prompts, 1.7, [1, 2, 3], **RAW, melody=melody))
    for prompt, seed, waveform in zip(prompts, [1, 2, 3], together, strict=True):
        [alone] = finish(generate(hearing, [prompt], 1.7, [seed], **RAW, melody=melody))
        [without] = finish(generate(hearing, [prompt], 1.7, [seed], **RAW))
        [other] = finish(generate(hearing, [prompt], 1.7, [seed], **RAW, melody=(_tune(1.3).flip(1), 8000)))
        assert torch.equal(alone, waveform)
        assert not torch.equal(alone, without) and not torch.equal(alone, other)


def _heard(model: Model, monkeypatch: pytest.MonkeyPatch, seconds: float, melody: Any, **settings: Any) -> list[Any]:
    """The melody [32] that each window of a sound hears."""
    heard: list[Any] = []

    def recorded(lm: Any, condition: Any, *rest: Any, **more: Any) -> Any:
        heard.append(condition.melody)
        return (yield from decode(lm, condition, *rest, **more))

    monkeypatch.setattr(pipeline, "decode", recorded)
    finish(generate(model, ["rain", "dog"], seconds, [1, 2], melody=melody, **settings))
    assert all(bins.shape == (2, 32) and torch.equal(bins[0], bins[1]) for bins in heard)
    return [bins[0] for bins in heard]


def test_within_the_window_a_melodys_frames_are_cut_or_come_again(
    hearing: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    for length in (0.1, 0.6, 1.0, 7.3):
        [bins] = _heard(hearing, monkeypatch, 0.9, (_tune(length), 8000))
        frames = loudest_bins(_tune(length)[0], 8000, 1024).tolist()
        assert bins.tolist() == (frames * 32)[:32], length


@pytest.mark.parametrize("length", [0.6, 1.9, 9.0])
def test_beyond_the_window_each_hop_hears_the_melody_from_where_it_starts(
    hearing: Model, monkeypatch: pytest.MonkeyPatch, length: float
) -> None:
    """AudioCraft's way: a window of the recording, from the hop's own start, as if the recording had no end."""
    endless = _tune(length)[0].tolist() * 20
    found = _heard(hearing, monkeypatch, 2.5, (_tune(length), 8000), stride_seconds=0.4)
    starts = [start * 160 for start, _ in windows(125, 50, 20)]
    assert len(found) == len(starts) == 5
    for start, bins in zip(starts, found, strict=True):
        window = torch.tensor(endless[start : start + 8000])
        assert torch.equal(bins, loudest_bins(window, 8000, 1024)), start
    assert not torch.equal(found[0], found[1])


def test_a_melody_is_mixed_and_resampled_to_the_models_rate(hearing: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    [plain] = _heard(hearing, monkeypatch, 0.9, (_tune(1.1), 8000))
    left = torch.cat([_tune(1.1, 44_100), torch.zeros(1, 48_510)])  # one channel alone carries it
    for waveform, sample_rate in ((_tune(1.1, 44_100, 2), 44_100), (left, 44_100), (_tune(1.1, 16_000), 16_000)):
        [bins] = _heard(hearing, monkeypatch, 0.9, (waveform, sample_rate))
        assert (bins == plain).float().mean() > 0.9  # notes change in the middle of a frame
    torch.testing.assert_close(tune_of(hearing, _tune(1.0, 8000, 3), 8000), _tune(1.0)[0])


def test_a_melody_that_cannot_be_heard_is_refused(hearing: Model, model: Model, flowing: Model) -> None:
    silent, apart = torch.zeros(2, 8000), torch.stack([_tune(1.0)[0], -_tune(1.0)[0]])
    for waveform in (silent, apart, silent + 1e-5, silent * torch.nan):
        with pytest.raises(AudioError, match=r"silent; give one in which it can be heard\.$"):
            finish(generate(hearing, ["rain"], 0.5, [1], melody=(waveform, 8000)))
    for samples in (0, 10):
        with pytest.raises(AudioError, match=r"give one of at least 0\.1 s\.$"):
            finish(generate(hearing, ["rain"], 0.5, [1], melody=(_tune(1.0)[:, :samples], 8000)))
    for deaf in (model, flowing):
        with pytest.raises(InputError, match=r"hears no melody; choose musicgen-melody, .*\.$"):
            finish(generate(deaf, ["rain"], 0.5, [1], melody=(_tune(1.0), 8000)))


def test_too_short_a_recording_is_refused(model: Model) -> None:
    with pytest.raises(AudioError, match=r"lasts 0.01 s; give one of at least 0.1 s"):
        finish(continue_audio(model, _noise(0.01, 8000), 8000))


@pytest.mark.parametrize(
    ("prompts", "seconds", "seeds"),
    [("rain", 1.0, [1]), ([], 1.0, []), (["rain"], 1.0, [1, 2]), (["rain"], -1.0, [1]), ([" "], 1.0, [1])],
)
def test_what_cannot_be_asked_is_refused(model: Model, prompts: Any, seconds: float, seeds: list[int]) -> None:
    with pytest.raises(InputError):
        finish(generate(model, prompts, seconds, seeds))


def test_levels_of_the_output_are_those_asked_for(model: Model) -> None:
    [waveform] = finish(generate(model, ["rain"], 2.0, [1], normalize="loudness", fade=0.0))
    loud, peak = audio.loudness(waveform, 8000), float(waveform.abs().max())
    assert loud == pytest.approx(audio.LOUDNESS_LUFS, abs=0.1) or peak == pytest.approx(
        10 ** (audio.PEAK_DB / 20), abs=1e-3
    )


@pytest.mark.parametrize(("recorded", "new"), [(100, 0), (0, 100), (1, 1)])
def test_sound_is_joined_however_little_there_is(recorded: int, new: int) -> None:
    recording = torch.rand(2, recorded)
    whole = joined(recording, torch.rand(2, new), 8000, 0.0)
    assert whole.shape == (2, recorded + new)
    assert torch.equal(whole[:, :recorded], recording)


def test_every_window_brings_something_new_however_short_it_is() -> None:
    """[25: a loop that goes on without getting anywhere]"""
    short: Any = SimpleNamespace(window_frames=1, card=SimpleNamespace(extend_stride=None))
    assert pipeline._stride(short, None) == 1
