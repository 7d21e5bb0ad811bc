"""Prompt to waveform, in windows; and what follows a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from audiogen_cli.data import audio
from audiogen_cli.errors import AudioError, InputError
from audiogen_cli.hub import catalog
from audiogen_cli.hub.catalog import Model
from audiogen_cli.models.decoding import Sampling, decode, finish
from audiogen_cli.pipelines import generate as pipeline
from audiogen_cli.pipelines.generate import continue_audio, generate, window_seed, windows

RAW: dict[str, Any] = {"normalize": "none", "fade": 0.0}


@pytest.fixture(scope="module", params=["tiny_model", "planning_model"])
def model(request: pytest.FixtureRequest) -> Model:
    """With and without an outline that is planned first."""
    return catalog.load(request.getfixturevalue(request.param))


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


@pytest.fixture(scope="module")
def plain(tiny_model: Path) -> Model:
    return catalog.load(tiny_model)


@pytest.fixture(scope="module")
def planning(planning_model: Path) -> Model:
    return catalog.load(planning_model)


def test_prompt_and_seed_each_change_the_sound(model: Model) -> None:
    rain, dog, other = finish(generate(model, ["rain", "dog", "rain"], 0.5, [1, 1, 2]))
    assert not torch.equal(rain, dog)
    assert not torch.equal(rain, other)


def test_raw_samples_are_the_decoders(plain: Model) -> None:
    """Within one window: the codes of `decode` with the first window's seed, decoded."""
    [waveform] = finish(generate(plain, ["rain"], 0.5, [3], **RAW))
    seeds = [window_seed(3, 0)]
    codes = finish(decode(plain.lm, plain.text(["rain"]), 25, seeds, plain.sampling, lanes=plain.card.lanes))
    with torch.inference_mode():
        assert torch.equal(waveform, plain.codec.decode(codes)[0])


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
    plain: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def recorded(lm: Any, condition: Any, frames: int, seeds: Any, sampling: Any, prompt: Any, **rest: Any) -> Any:
        calls.append((frames, list(seeds), None if prompt is None else prompt.shape[2]))
        return (yield from decode(lm, condition, frames, seeds, sampling, prompt, **rest))

    monkeypatch.setattr(pipeline, "decode", recorded)
    finish(generate(plain, ["rain"], 1.8, [1], stride_seconds=0.3))
    assert [(frames, prompt) for frames, _, prompt in calls] == [(50, None), (50, 35), (50, 35), (45, 35)]
    assert len({seed for _, [seed], _ in calls}) == 4


def test_progress_goes_from_the_start_to_the_end(model: Model) -> None:
    """50 frames a second, and 12.5 of an outline before them; the half second that is known counts for nothing."""
    new = (100 + 25, 50 + 13) if model.planner else (100, 50)
    made = (generate(model, ["rain", "dog"], 2.0, [1, 2]), _continued(model, 1.0))
    for steps, total in zip(made, new, strict=True):
        seen = list(steps)
        done = [step.done_frames for step in seen]
        assert done == sorted(done) and done[-1] == total and done[0] <= 2
        assert {step.total_frames for step in seen} == {total}


def _continued(model: Model, seconds: float, **settings: Any) -> Any:
    return continue_audio(model, _noise(1.23, 8000), 8000, "rain", seconds, [1], **settings)


def _noise(seconds: float, sample_rate: int, channels: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(channels, round(seconds * sample_rate), generator=generator)


def test_a_plan_comes_first_and_is_heard(planning: Model) -> None:
    """2 s in windows of 48 frames: 12 frames of the outline, and a stride of half of that."""
    assert planning.planner is not None
    [waveform] = finish(generate(planning, ["rain"], 2.0, [3], **RAW))
    condition, lanes = planning.text(["rain"]), planning.card.lanes
    outline, codes = torch.empty(1, 2, 0, dtype=torch.int64), torch.empty(1, 3, 0, dtype=torch.int64)
    for index, (start, end) in enumerate(windows(25, 12, 6)):
        known = outline[:, :, start:] if index else None
        seeds = [window_seed(3, f"plan {index}")]
        found = decode(planning.planner.lm, condition, end - start, seeds, planning.sampling, known, lanes=lanes)
        outline = torch.cat([outline[:, :, :start], finish(found)], dim=2)
    filling = Sampling(1.0, 8, 0.0, planning.card.filling_guidance)
    for index, (start, end) in enumerate(windows(100, 48, 24)):
        heard = condition.under(outline[:, :, start // 4 : -(-end // 4)])
        known = codes[:, :, start:] if index else None
        found = decode(planning.lm, heard, end - start, [window_seed(3, index)], filling, known, lanes=lanes)
        codes = torch.cat([codes[:, :, :start], finish(found)], dim=2)
    with torch.inference_mode():
        assert torch.equal(waveform, planning.codec.decode(codes)[0])


def test_a_continued_recordings_outline_is_kept(planning: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = []

    def recorded(lm: Any, condition: Any, frames: int, seeds: Any, sampling: Any, prompt: Any, **rest: Any) -> Any:
        prompts.append(prompt)
        return (yield from decode(lm, condition, frames, seeds, sampling, prompt, **rest))

    monkeypatch.setattr(pipeline, "decode", recorded)
    finish(_continued(planning, 0.3))
    tail = _noise(1.23, 8000)[None, :, -24 * 160 :]  # half of a window, in whole frames of the outline
    assert planning.planner is not None
    assert prompts[0].equal(planning.planner.outline.encode(tail))
    assert prompts[1].equal(planning.codec.encode(tail, 3))


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


def test_new_sound_is_what_the_codec_decodes_after_the_recordings_codes(plain: Model) -> None:
    [waveform] = finish(_continued(plain, 0.5, fade=0.0))
    tail = _noise(1.23, 8000)[:, -25 * 160 :]  # half of the window of 50 frames, ending where the recording ends
    with torch.inference_mode():
        prompt = plain.codec.encode(tail[None], 3)
        seeds = [window_seed(1, 0)]
        codes = finish(decode(plain.lm, plain.text(["rain"]), 50, seeds, plain.sampling, prompt, lanes=2))
        expected = plain.codec.decode(codes)[0, :, 25 * 160 :]
    assert torch.equal(codes[:, :, :25], prompt)
    assert torch.equal(waveform[:, -len(expected[0]) + 80 :], expected[:, 80:])


def test_continuations_do_not_depend_on_their_batch(model: Model) -> None:
    recording = _noise(1.23, 8000)
    together = finish(continue_audio(model, recording, 8000, "rain", 0.5, [1, 2, 3]))
    [alone] = finish(continue_audio(model, recording, 8000, "rain", 0.5, [3]))
    assert torch.equal(together[2], alone)


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
