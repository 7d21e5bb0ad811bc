"""Prompt -> conditions -> frames -> waveform, in windows for long audio; and the same from the end of a recording.

Frames are codes or latents, as the model has it. It hears at most `window` of them. Longer sound is made in hops:
each one keeps the last window - stride frames as its prompt and adds `stride` new ones (AudioCraft's extend_stride;
here half a window unless told otherwise).

    |---------- window ----------|
                 |-- prompt -----|-- stride --|
                              |-- prompt -----|-- stride --|

A melody moves on with the hops, from the start of the recording to its end and round again; a sound that fits into one
window hears the melody's frames once and again (conditioners/melody.py). AudioCraft does both.

What an item becomes depends on its own text, melody, seed and lengths alone: text is encoded and frames are decoded one
by one, and models/decoding.py keeps the batch out of the codes. Window w of seed s draws from a generator seeded by
(s, w).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.conditioners.melody import melody_bins, turned
from audiogen_cli.data import audio
from audiogen_cli.errors import AudioError, InputError
from audiogen_cli.hub.catalog import Model
from audiogen_cli.models.decoding import Sampling, decode
from audiogen_cli.models.flow_decoding import integrate, to_sketch
from audiogen_cli.models.lm import LM
from audiogen_cli.pipelines.candidates import Chosen, Lanes, answering, best, candidate_seed, count_for, lanes_for
from audiogen_cli.pipelines.layers import Scene, layer_seed, plan, together
from audiogen_cli.pipelines.recipe import check_prompt

T = TypeVar("T")
Y = TypeVar("Y")

MIN_PROMPT_SECONDS = 0.1
_SILENCE = 1e-4  # a melody whose peak is lower, -80 dBFS, is none
_SEAM_SECONDS = 0.01
_DRAWING = 0.7  # of the progress, where what is drawn is painted over afterwards


class Progress(NamedTuple):
    """Frames done and to do of each of `sounds` sounds, which advance together."""

    done_frames: int
    total_frames: int
    sounds: int


def generate(
    model: Model,
    prompts: Sequence[str | None],
    seconds: float,
    seeds: Sequence[int],
    sampling: Sampling | None = None,
    normalize: audio.Normalization = "loudness",
    fade: float = 0.01,
    stride_seconds: float | None = None,
    keep_padding: bool = False,
    candidates: int | None = None,
    layers: bool | None = None,
    melody: tuple[Tensor, int] | None = None,
) -> Generator[Progress, None, list[Tensor]]:
    """One sound per prompt and seed. Yields Progress; returns waveforms [C, N] on the CPU at the model's rate.

    A prompt of None is no text at all. sampling, stride_seconds, candidates, layers: None is the model's own. With
    normalize "none" and fade 0 the decoder's samples come as they are. keep_padding: hear each text padded to the
    longest one, as AudioCraft does with a batch; without, each is made as AudioCraft makes it alone
    (models/decoding.decode). candidates: so many sounds are made for each that is returned, the one that answers its
    prompt best (pipelines/candidates.py). layers: whether a text of several sounds is made sound by sound
    (pipelines/layers.py). melody: a recording (waveform [C, N], sample_rate) whose tune all sounds follow; all of it is
    heard, so give a stem without drums and bass for a clearer one. Raises InputError when the prompts, the numbers or
    the melody cannot be used.
    """
    how = (sampling, normalize, fade, stride_seconds, keep_padding, candidates, layers, melody)
    chosen = yield from choose(model, prompts, seconds, seeds, *how)
    return [sound.waveform for sound in chosen]


def choose(
    model: Model,
    prompts: Sequence[str | None],
    seconds: float,
    seeds: Sequence[int],
    sampling: Sampling | None = None,
    normalize: audio.Normalization = "loudness",
    fade: float = 0.01,
    stride_seconds: float | None = None,
    keep_padding: bool = False,
    candidates: int | None = None,
    layers: bool | None = None,
    melody: tuple[Tensor, int] | None = None,
) -> Generator[Progress, None, list[Chosen]]:
    """`generate` with the scores of the sounds that were chosen."""
    check(prompts, seconds, seeds)
    tune = None if melody is None else tune_of(model, *melody)
    counts = [count_for(model, prompt, candidates) for prompt in prompts]
    scenes = [plan(model, prompt, layers) for prompt in prompts]
    num_samples = round(seconds * model.sample_rate)
    how = (sampling or model.sampling, stride_seconds, keep_padding, tune)
    items = yield from _candidates(model, scenes, seeds, counts, model.codec.num_frames(num_samples), how)
    chosen = []
    for prompt, scene, own in zip(prompts, scenes, items, strict=True):
        judged: float | None = None
        if len(own) > 1 and not model.scored:
            item, judged = answering(model, _texts(scene), own)
            own = item[None]
        waveform, score = best(model, prompt, [together(model, scene, item, num_samples) for item in own])
        score = judged if score is None else score
        waveform = audio.fade(audio.normalize(waveform, model.sample_rate, normalize), model.sample_rate, fade)
        chosen.append(Chosen(waveform, score))
    return chosen


def _candidates(
    model: Model,
    scenes: Sequence[Scene],
    seeds: Sequence[int],
    counts: Sequence[int],
    num_frames: int,
    how: tuple[Sampling, float | None, bool, Tensor | None],
) -> Generator[Progress, None, list[Tensor]]:
    """The candidates of each scene, frames [count, L, K or D, T]. Those with as many are made together, a sound's
    candidates side by side. how: of `_frames`."""
    total = sum(count * len(_texts(scene)) for count, scene in zip(counts, scenes, strict=True))
    found: dict[int, Tensor] = {}
    before = 0

    def progress(new: int, done: int) -> Progress:
        return Progress(round((before * num_frames + new * done) / total), num_frames, total)

    for count in sorted(set(counts)):
        rows = [index for index in range(len(scenes)) if counts[index] == count]
        sounds = [(text, seeds[i], layer) for i in rows for layer, text in enumerate(_texts(scenes[i]))]
        texts = [text for text, _, _ in sounds for _ in range(count)]
        drawn = [layer_seed(candidate_seed(seed, k), layer) for _, seed, layer in sounds for k in range(count)]
        steps = _frames(model, hear(model, texts), None, num_frames, drawn, *how, lanes_for(model, count))
        frames = yield from _mapped(steps, partial(progress, len(drawn)))
        before += len(drawn)
        layers = iter(frames.split(count))
        found |= {index: torch.stack([next(layers) for _ in _texts(scenes[index])], dim=1) for index in rows}
    return [found[index] for index in range(len(scenes))]


def _texts(scene: Scene) -> list[str | None]:
    return [text for turn in scene for text in turn]


def continue_audio(
    model: Model,
    waveform: Tensor,
    sample_rate: int,
    text: str = "",
    seconds: float = 5.0,
    seeds: Sequence[int] = (0,),
    sampling: Sampling | None = None,
    fade: float = 0.01,
    stride_seconds: float | None = None,
) -> Generator[Progress, None, list[Tensor]]:
    """`seconds` of new sound after waveform [C, N], once per seed; `text` steers it, with "" the recording alone does.

    Returns waveforms [C, N + new] at the recording's own rate and channels, whose first N samples are the recording's
    own. The first 10 ms after the seam blend from the recording, played backwards, into the new sound; `fade` is at the
    end only. Raises AudioError when the recording is shorter than 0.1 s.
    """
    check([text] * len(seeds), seconds, seeds, empty=True)
    if waveform.shape[1] < MIN_PROMPT_SECONDS * sample_rate:
        length = waveform.shape[1] / sample_rate
        raise AudioError(
            f"the recording to continue lasts {length:.3g} s; give one of at least {MIN_PROMPT_SECONDS} s."
        )
    prompt = _listen(model, waveform, sample_rate, stride_seconds)  # [1, K or D, P]
    start, new_frames = prompt.shape[2], model.codec.num_frames(round(seconds * model.sample_rate))
    prompt = prompt.expand(len(seeds), -1, -1)
    condition = hear(model, [text] * len(seeds))
    total = start + new_frames
    steps = _frames(model, condition, prompt, total, seeds, sampling or model.sampling, stride_seconds)
    frames = yield from _mapped(steps, lambda done: Progress(max(0, done - start), new_frames, len(seeds)))
    seam, num_samples = start * model.codec.hop_length, round(seconds * sample_rate)
    made = [
        audio.remix(after(sound, seam, model.sample_rate, sample_rate), len(waveform))
        for sound in _sound(model, frames)
    ]
    return [joined(waveform, new[:, :num_samples], sample_rate, fade) for new in made]


@torch.inference_mode()
def hear(model: Model, prompts: Sequence[str | None]) -> Condition:
    """The prompts as one condition, each encoded alone so that the others cannot touch its bits."""
    return Condition.cat([model.text([model.heard(prompt)]) for prompt in prompts])


def tune_of(model: Model, waveform: Tensor, sample_rate: int) -> Tensor:
    """A melody [C, N] as the model gets it: mono [N] at its own rate.

    Raises InputError when the model hears no melody, AudioError when there is none to hear.
    """
    if not getattr(model.maker.config, "melody_dim", 0):
        raise InputError(f"{model.name} hears no melody; choose musicgen-melody, or leave the melody out.")
    seconds = waveform.shape[1] / sample_rate
    if seconds < MIN_PROMPT_SECONDS:
        raise AudioError(f"the melody lasts {seconds:.3g} s; give one of at least {MIN_PROMPT_SECONDS} s.")
    mono = audio.remix(waveform.detach().cpu().float(), 1)
    if not float(mono.abs().max()) >= _SILENCE:
        raise AudioError("the melody's recording is silent; give one in which it can be heard.")
    return audio.resample(mono, sample_rate, model.sample_rate)[0]


def windows(total: int, window: int, stride: int) -> Iterator[tuple[int, int]]:
    """The stretches [start, end) that the language model hears, one after the other."""
    start = 0
    while start + window < total:
        yield start, start + window
        start += stride
    yield start, total


def window_seed(seed: int, window: int) -> int:
    """The seed of one window's generator, 63 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{window}".encode()).digest()[:8], "big") >> 1


def check(prompts: Sequence[str | None], seconds: float, seeds: Sequence[int], empty: bool = False) -> None:
    """Raises InputError for texts, lengths or seeds that cannot be used."""
    if isinstance(prompts, str):
        raise InputError("prompts must be a list of texts; put the one text in brackets.")
    if len(prompts) != len(seeds) or not prompts:
        raise InputError(f"{len(prompts)} prompts need as many seeds, not {len(seeds)}; give one seed for each.")
    if not seconds > 0:
        raise InputError(f"the length must be positive, not {seconds} s; ask for more.")
    try:
        for prompt in prompts:
            check_prompt(prompt or "", empty or prompt is None)
    except ValueError as error:
        raise InputError(str(error)) from error


def _stride(model: Model, stride_seconds: float | None) -> int:
    """New frames of a hop: at least one, fewer than the window. Raises InputError for more."""
    window, seconds = model.window_frames, stride_seconds or model.card.extend_stride
    if seconds is None:
        return max(1, window // 2)
    stride = max(1, round(seconds * model.codec.frame_rate))
    if stride >= window > 1:
        length = window / model.codec.frame_rate
        raise InputError(f"a stride of {seconds:g} s does not fit into the model's window of {length:g} s; shorten it.")
    return min(stride, max(1, window - 1))


def _frames(
    model: Model,
    condition: Condition,
    prompt: Tensor | None,
    num_frames: int,
    seeds: Sequence[int],
    sampling: Sampling,
    stride_seconds: float | None,
    keep_padding: bool = False,
    tune: Tensor | None = None,
    lanes: Lanes | None = None,
) -> Generator[int, None, Tensor]:
    """prompt [B, K or D, P] (P at most a window - stride) -> [B, K or D, num_frames]; of a model with a painter
    [B, D, num_frames], from a prompt of codes. tune: a melody [N]. lanes: None is the model's own number. Yields the
    frames done."""
    lanes = lanes or lanes_for(model, 1)

    def draw(index: int, start: int, end: int, known: Tensor | None) -> Generator[int, None, Tensor]:
        drawn = [window_seed(seed, index) for seed in seeds]
        heard = condition if tune is None else _beside(model, condition, tune, start, num_frames)
        return _window(model, heard, end - start, drawn, sketching, known, keep_padding, lanes)

    stride, painter = _stride(model, stride_seconds), model.painter
    sketching = sampling if painter is None else to_sketch(painter, sampling)
    share = 1.0 if painter is None else _DRAWING
    steps = _in_windows(model.window_frames, stride, num_frames, prompt, draw)
    frames = yield from _mapped(steps, lambda done: round(share * done))
    if painter is None:
        return frames
    sketch = _sketch(model, frames)

    def paint(index: int, start: int, end: int, known: Tensor | None) -> Generator[int, None, Tensor]:
        drawn = [window_seed(seed, -1 - index) for seed in seeds]
        over = sketch[:, :, start:end]
        return integrate(painter, condition, end - start, drawn, sampling, known, over, lanes=lanes.latents)

    known = None if prompt is None else sketch[:, :, : prompt.shape[2]]
    steps = _in_windows(model.window_frames, stride, num_frames, known, paint)
    return (yield from _mapped(steps, lambda done: round(share * num_frames + (1 - share) * done)))


def _beside(model: Model, condition: Condition, tune: Tensor, start: int, num_frames: int) -> Condition:
    """The condition with the melody that the window from frame `start` hears, in a sound of `num_frames`."""
    config, rate = model.lm.config, model.sample_rate
    if num_frames > model.window_frames:
        tune = turned(tune, start * model.codec.hop_length, round(config.window_seconds * rate))
    bins = melody_bins(tune, rate, config.melody_fft, config.melody_dim, config.melody_frames)
    return dataclasses.replace(condition, melody=bins.expand(condition.batch_size, -1))


def _in_windows(
    window: int,
    stride: int,
    num_frames: int,
    frames: Tensor | None,
    make: Callable[[int, int, int, Tensor | None], Generator[int, None, Tensor]],
) -> Generator[int, None, Tensor]:
    """Window by window up to `num_frames`: make(index, start, end, known) finds the frames of a stretch [start, end),
    of which `known` are there already. Yields the frames done."""
    for index, (start, end) in enumerate(windows(num_frames, window, stride)):
        there = 0 if frames is None else frames.shape[2]
        steps = make(index, start, end, None if frames is None else frames[:, :, start:])
        found = yield from _mapped(steps, partial(_frames_done, start, there))
        frames = found.cpu() if frames is None else torch.cat([frames[:, :, :start], found.cpu()], dim=2)
    assert frames is not None  # there is always a window
    return frames


def _window(
    model: Model,
    condition: Condition,
    num_frames: int,
    seeds: Sequence[int],
    sampling: Sampling,
    known: Tensor | None,
    keep_padding: bool,
    lanes: Lanes,
) -> Generator[int, None, Tensor]:
    """What the model makes after `known`, which stays as it is; yields the frames done."""
    maker, (codes, latents) = model.maker, lanes
    if isinstance(maker, LM):
        return decode(maker, condition, num_frames, seeds, sampling, known, lanes=codes, keep_padding=keep_padding)
    return integrate(maker, condition, num_frames, seeds, sampling, known, lanes=latents)


def _frames_done(start: int, known: int, done: int) -> int:
    """Of all frames, when `done` are complete in the window from `start`; a pattern completes known ones late."""
    return max(known, start + done)


@torch.inference_mode()
def _sketch(model: Model, codes: Tensor) -> Tensor:
    """codes [B, K, T] -> the latents [B, D, T] that they stand for."""
    device = next(model.codec.parameters()).device
    return model.latents.latents_of(codes.to(device)).cpu()


@torch.inference_mode()
def _sound(model: Model, frames: Tensor) -> list[Tensor]:
    """frames [B, K or D, T] -> B waveforms [C, T * hop_length], decoded one by one."""
    device = next(model.codec.parameters()).device
    return [model.sound(item[None].to(device))[0].float().cpu() for item in frames]


@torch.inference_mode()
def _listen(model: Model, waveform: Tensor, sample_rate: int, stride_seconds: float | None) -> Tensor:
    """The end of a recording [C, N] as frames [1, K or D, P]; the last frame ends exactly where the recording ends."""
    codec, room = model.codec, model.window_frames - _stride(model, stride_seconds)
    tail = waveform[:, -round((room / codec.frame_rate + 1) * sample_rate) :]
    tail = audio.resample(audio.remix(tail, codec.channels), sample_rate, codec.sample_rate)
    num_frames = max(1, min(room, tail.shape[1] // codec.hop_length))
    tail = tail[:, -num_frames * codec.hop_length :]
    device = next(codec.parameters()).device
    return model.frames(tail[None].to(device)).cpu()


def after(waveform: Tensor, seam: int, source_rate: int, target_rate: int) -> Tensor:
    """What follows sample `seam` of [C, N], at another rate; what precedes it keeps the resampler's edge away."""
    return audio.resample(waveform, source_rate, target_rate)[:, round(seam * target_rate / source_rate) :]


def joined(recording: Tensor, new: Tensor, sample_rate: int, fade: float) -> Tensor:
    """[C, N] and [C, M] -> [C, N + M]; the recording's own samples are not touched."""
    count = min(round(_SEAM_SECONDS * sample_rate), new.shape[1], recording.shape[1])
    share = torch.linspace(0, 1, count + 2)[1:-1]
    mirrored = recording[:, recording.shape[1] - count :].flip(1)
    blended = mirrored + (new[:, :count] - mirrored) * share
    new = torch.cat([blended, new[:, count:]], dim=1)
    faded = audio.fade(torch.cat([new, new], dim=1), sample_rate, fade)[:, new.shape[1] :]  # at the end only
    return torch.cat([recording, faded], dim=1)


def _mapped(steps: Generator[Y, None, T], function: Callable[[Y], Any]) -> Generator[Any, None, T]:
    """`yield from`, with a function applied to what is yielded."""
    while True:
        try:
            value = next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result
        yield function(value)
