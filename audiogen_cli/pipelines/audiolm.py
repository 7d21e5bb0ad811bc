"""AudioLM (2209.03143): prompt -> semantic ids -> coarse codes -> fine codes -> waveform.

    model = AudioLM(wav2vec=..., codec=..., semantic_transformer=..., coarse_transformer=..., fine_transformer=...)
    [waveform] = model(prime_wave_path="prompt.wav", seconds=10.0)      # [C, N], the prompt decoded and then the new

Long sound is made in windows, as the paper does: semantic ids in hops of half a window; coarse codes in windows of
which each keeps the last three tenths of the one before and reads the semantic ids of its own stretch; fine codes in
windows side by side. Where repeated semantic ids are removed they do not say which stretch they belong to: there the
speech model listens to what was made, and the window reads on from where the plan has been spoken to. The codec decodes
everything in one pass.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.conditioners.text import T5Conditioner
from audiogen_cli.data import audio
from audiogen_cli.errors import AudioError, InputError
from audiogen_cli.hub import stages
from audiogen_cli.hub.stages import Stages, checked
from audiogen_cli.models.audiolm import Stage
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.decoding import Sampling, finish
from audiogen_cli.models.semantic import SemanticTokenizer
from audiogen_cli.models.speculative import speculate
from audiogen_cli.models.stage_decoding import Item, decode
from audiogen_cli.ops.alignment import align
from audiogen_cli.ops.ids import flatten, unflatten, unique_consecutive
from audiogen_cli.pipelines.generate import Progress, after, check, joined, window_seed, windows

Domain = Literal["speech", "music"]
Temperatures = tuple[float, float, float]

TEMPERATURES: dict[Domain, Temperatures] = {"speech": (0.6, 0.8, 0.6), "music": (1.0, 0.95, 0.4)}
"""Of the semantic, coarse and fine stage: AudioLM's for speech, MusicLM's (2301.11325) for music."""

_KEPT = 0.3  # of a coarse window: 3 s of 10 s


@dataclass(frozen=True)
class Request:
    """What to make. texts and prompts: one a row, or None; prompts are waveforms [C, N] at the codec's rate.

    seconds: of new sound at most, None is as much as one window holds; max_length: semantic ids at most. temperatures:
    of the three stages, each times that of `sampling`.
    """

    seeds: Sequence[int]
    texts: Sequence[str] | None = None
    prompts: Sequence[Tensor] | None = None
    seconds: float | None = None
    sampling: Sampling = field(default_factory=Sampling)
    temperatures: Temperatures = TEMPERATURES["speech"]
    max_length: int | None = None
    coarse_only: bool = False


@dataclass(frozen=True)
class _Row:
    """One sound in the making: its prompt's ids and codes [K, P], then what was found."""

    seed: int
    semantic: Tensor
    codes: Tensor
    made: Tensor
    frames: int  # at most, the prompt included


class AudioLM:
    """The stages between a speech model's k-means and a codec: three, or two where the coarse one makes all codebooks
    (models/depth.py). drafts: small stages that make those of the same name faster, and nothing else
    (models/speculative.py). Raises ModelError when they do not fit."""

    def __init__(
        self,
        wav2vec: SemanticTokenizer,
        codec: Codec,
        semantic_transformer: Stage,
        coarse_transformer: Stage,
        fine_transformer: Stage | None = None,
        text: T5Conditioner | None = None,
        domain: Domain = "speech",
        lanes: int = 1,
        drafts: Sequence[Stage] = (),
    ) -> None:
        stages_of = (semantic_transformer, coarse_transformer, fine_transformer)
        self.parts = checked(Stages(wav2vec, codec, *stages_of, text, tuple(drafts)))
        self.domain, self.lanes = domain, lanes
        for part in (codec, *self.parts.all, *self.parts.drafts):
            part.eval()

    @property
    def sample_rate(self) -> int:
        return self.parts.codec.sample_rate

    def __call__(
        self,
        *,
        batch_size: int = 1,
        text: Sequence[str] | None = None,
        prime_wave: Tensor | None = None,
        prime_wave_input_sample_hz: int | None = None,
        prime_wave_path: str | os.PathLike[str] | None = None,
        seconds: float | None = None,
        max_length: int = 2048,
        return_coarse_generated_wave: bool = False,
        temperatures: Temperatures | None = None,
        cond_scale: float = 3.0,
        filter_thres: float = 0.9,
        seed: int = 0,
    ) -> list[Tensor]:
        """Waveforms [C, N] at the codec's rate, a prompt's own part first, each as long as its row became.

        prime_wave: [N], or [B, N] of as many rows as there will be, or of one for all; its rate is the codec's unless
        given. prime_wave_path: one recording for all rows, of any rate and number of channels. filter_thres: the share
        of the codec's codes that is never drawn.
        """
        prompts = self._prompts(prime_wave, prime_wave_input_sample_hz, prime_wave_path)
        rows = max(batch_size, len(text or ()), len(prompts or ()))
        if prompts is not None:
            prompts = prompts * rows if len(prompts) == 1 else prompts
        request = Request(
            seeds=range(seed, seed + rows),
            texts=None if text is None else list(text) * (rows if len(text) == 1 else 1),
            prompts=prompts,
            seconds=seconds,
            sampling=Sampling(1.0, max(1, int((1 - filter_thres) * self.parts.codec.codebook_size)), 0.0, cond_scale),
            temperatures=temperatures or TEMPERATURES[self.domain],
            max_length=max_length,
            coarse_only=return_coarse_generated_wave,
        )
        return finish(self.generate(request))

    def generate(self, request: Request) -> Generator[Progress, None, list[Tensor]]:
        """Yields how far it is, in frames; returns waveforms. Raises InputError when the request cannot be met."""
        rows = self._begun(request)
        total, done = max(row.frames for row in rows), 0
        steps_of = (self._semantic, self._coarse, self._fine)[: 2 if request.coarse_only else len(self.parts.all)]
        for number, stage in enumerate(steps_of):
            steps = stage(rows, request)
            while True:
                try:
                    done = max(done, (number * total + min(next(steps), total)) // len(steps_of))
                except StopIteration as stop:
                    rows = stop.value
                    break
                yield Progress(done, total, len(rows))
        return [self._sound(row.made) for row in rows]

    @property
    def room_seconds(self) -> float:
        """How much of a recording is listened to."""
        return self.parts.semantic.config.window_seconds / 2

    def _prompts(
        self, wave: Tensor | None, rate: int | None, path: str | os.PathLike[str] | None
    ) -> list[Tensor] | None:
        """The rows of a tensor, or the one recording of a file however many channels it has."""
        if wave is not None and path is not None:
            raise InputError("the prompt is either a waveform or a file; leave one out.")
        codec = self.parts.codec
        if path is not None:
            return [audio.read(path, codec.sample_rate, codec.channels).waveform]
        if wave is None:
            return None
        rows = wave.detach().cpu().float().reshape(-1, wave.shape[-1])
        if rate is not None:
            rows = audio.resample(rows, rate, codec.sample_rate)
        return [audio.remix(row[None], codec.channels) for row in rows]

    def _begun(self, request: Request) -> list[_Row]:
        count, codec, coarse = len(request.seeds), self.parts.codec, self.parts.coarse.config
        for what, given in (("texts", request.texts), ("prompts", request.prompts)):
            if given is not None and len(given) != count:
                raise InputError(
                    f"{len(given)} {what} do not go with {count} sounds; give one for each, or one for all."
                )
        if request.texts is not None and self.parts.text is None:
            raise InputError("none of this model's stages reads text; leave the text out.")
        if request.seconds is not None and not request.seconds > 0:
            raise InputError(f"the length must be positive, not {request.seconds} s; ask for more.")
        window = max(1, round(coarse.window_seconds * codec.frame_rate))
        rows = []
        for number, seed in enumerate(request.seeds):
            semantic, codes = self._heard(None if request.prompts is None else request.prompts[number])
            new = window - codes.shape[1]
            if request.seconds is not None:
                new = codec.num_frames(round(request.seconds * codec.sample_rate))
            if new < 1:
                raise InputError(
                    f"the prompt fills the window of {coarse.window_seconds:g} s; say how many seconds follow."
                )
            rows.append(_Row(seed, semantic, codes, codes[:0], codes.shape[1] + new))
        return rows

    @torch.inference_mode()
    def _heard(self, prompt: Tensor | None) -> tuple[Tensor, Tensor]:
        """A prompt [C, N] as semantic ids [S] and codes [K, P]; the last frame ends where the recording ends."""
        codec, tokenizer = self.parts.codec, self.parts.tokenizer
        if prompt is None:
            return torch.empty(0, dtype=torch.int64), torch.empty(self._levels, 0, dtype=torch.int64)
        frames = prompt.shape[1] // codec.hop_length
        if not frames:
            raise AudioError(f"the prompt is shorter than a frame of {1 / codec.frame_rate:.3g} s; give a longer one.")
        prompt = prompt[:, -frames * codec.hop_length :]
        codes = codec.encode(prompt[None].to(next(codec.parameters()).device), self._levels)[0].cpu()
        heard = audio.resample(audio.remix(prompt, 1), codec.sample_rate, tokenizer.sample_rate)
        ids = tokenizer(heard)[0][: max(1, round(frames * self._ratio))]
        return (unique_consecutive(ids) if self.parts.semantic.config.unique_consecutive else ids), codes

    @property
    def _levels(self) -> int:
        target = self.parts.all[-1].config.target
        return target.first_level + target.num_levels

    @property
    def _ratio(self) -> float:
        """Semantic ids that last one frame."""
        return self.parts.tokenizer.frame_rate / self.parts.codec.frame_rate

    def _semantic(self, rows: list[_Row], request: Request) -> Generator[int, None, list[_Row]]:
        """Goes on with each row's ids, window by window, to its end or its length."""
        config = self.parts.semantic.config
        window = max(2, round(config.window_seconds * self.parts.tokenizer.frame_rate))
        wanted = [max(1, round(row.frames * self._ratio)) for row in rows]
        if request.max_length is not None:
            wanted = [max(len(row.semantic), min(n, request.max_length)) for row, n in zip(rows, wanted, strict=True)]
        ids, over = [row.semantic for row in rows], [False] * len(rows)
        for number, (start, end) in enumerate(windows(max(wanted), window, max(1, window // 2))):
            ends = [min(end, n) for n in wanted]
            live = [i for i in range(len(rows)) if not over[i] and len(ids[i]) < ends[i]]
            items = [Item(ids[i][start:], ends[i] - start, _seed(rows[i], 0, number)) for i in live]
            found = yield from self._decoded(self.parts.semantic, items, live, request, 0, start)
            for i, part in zip(live, found, strict=True):
                ids[i] = torch.cat([ids[i][:start], part])
                over[i] = len(ids[i]) < ends[i]
        return [replace(row, semantic=found) for row, found in zip(rows, ids, strict=True)]

    def _coarse(self, rows: list[_Row], request: Request) -> Generator[int, None, list[_Row]]:
        config, codec = self.parts.coarse.config, self.parts.codec
        levels, ratio = config.target.num_levels, self._ratio
        window = max(1, round(config.window_seconds * codec.frame_rate))
        stride = max(1, window - int(_KEPT * window))
        wanted = [row.frames for row in rows]
        if not config.unique_consecutive:  # the semantic ids say how long the sound is
            wanted = [max(row.codes.shape[1], min(row.frames, round(len(row.semantic) / ratio))) for row in rows]
        made, over = [row.codes[:levels] for row in rows], [False] * len(rows)
        spoken = [(0, 0)] * len(rows)  # a frame, and how many of the planned ids are over by then
        for number, (start, end) in enumerate(windows(max(wanted), window, stride)):
            ends = [min(end, n) for n in wanted]
            live = [i for i in range(len(rows)) if not over[i] and made[i].shape[1] < ends[i]]
            items = []
            for i in live:
                first, last = round(start * ratio), round(ends[i] * ratio)
                if config.unique_consecutive:
                    frame, known = spoken[i]
                    known += self._spoken(made[i][:, frame:start], rows[i].semantic[known:])
                    spoken[i], first, last = (start, known), known, known + last - first
                words = rows[i].semantic[first:last]
                length = (ends[i] - start) * levels
                items.append(Item(flatten(made[i][:, start:]), length, _seed(rows[i], 1, number), words))
            found = yield from self._decoded(self.parts.coarse, items, live, request, 1, start)
            for i, part in zip(live, found, strict=True):
                made[i] = torch.cat([made[i][:, :start], unflatten(part, levels)], dim=1)
                over[i] = made[i].shape[1] < ends[i]
        return [replace(row, made=codes) for row, codes in zip(rows, made, strict=True)]

    def _spoken(self, codes: Tensor, plan: Tensor) -> int:
        """How many planned ids [n] are over after codes [K, T] that began with the first of them."""
        if not codes.shape[1]:
            return 0
        tokenizer, codec = self.parts.tokenizer, self.parts.codec
        sound = audio.resample(audio.remix(self._sound(codes), 1), codec.sample_rate, tokenizer.sample_rate)
        return int(align(tokenizer(sound)[0], plan)[-1])

    def _fine(self, rows: list[_Row], request: Request) -> Generator[int, None, list[_Row]]:
        assert self.parts.fine is not None
        config, codec = self.parts.fine.config, self.parts.codec
        first, levels = config.target.first_level, config.target.num_levels
        window = max(1, round(config.window_seconds * codec.frame_rate))
        made = [row.codes[first:] for row in rows]
        for number, start in enumerate(range(0, max(row.made.shape[1] for row in rows), window)):
            stretch = [row.made[:, start : start + window] for row in rows]
            live = [i for i, row in enumerate(rows) if made[i].shape[1] < min(start + window, row.made.shape[1])]
            items = [
                Item(
                    flatten(made[i][:, start:]),
                    stretch[i].shape[1] * levels,
                    _seed(rows[i], 2, number),
                    flatten(stretch[i]),
                )
                for i in live
            ]
            found = yield from self._decoded(self.parts.fine, items, live, request, 2, start)
            for i, part in zip(live, found, strict=True):
                made[i] = torch.cat([made[i][:, :start], unflatten(part, levels)], dim=1)
        return [replace(row, made=torch.cat([row.made, fine], dim=0)) for row, fine in zip(rows, made, strict=True)]

    def _decoded(
        self, stage: Stage, items: list[Item], live: list[int], request: Request, index: int, start: int
    ) -> Generator[int, None, list[Tensor]]:
        """The window from `start` of the rows `live`. Yields how many frames are done."""
        if not items:
            return []
        sampling = request.sampling
        sampling = replace(sampling, temperature=sampling.temperature * request.temperatures[index])
        condition = self._condition(stage, request, live)
        drafts = [draft for draft in self.parts.drafts if draft.config.stage == stage.config.stage]
        if drafts:
            steps = speculate(stage, drafts[0], items, condition, sampling)
        else:
            steps = decode(stage, items, condition, sampling, lanes=self.lanes)
        while True:
            try:
                done = start + next(steps) // stage.config.target.num_levels
                yield done if index else round(done / self._ratio)
            except StopIteration as stop:
                found: list[Tensor] = stop.value
                return found

    def _condition(self, stage: Stage, request: Request, live: list[int]) -> Condition | None:
        """Each text is encoded alone, so that the others cannot touch its bits."""
        if stage.config.conditioning == "none" or request.texts is None or self.parts.text is None:
            return None
        return Condition.cat([self.parts.text([request.texts[i]]) for i in live])

    @torch.inference_mode()
    def _sound(self, codes: Tensor) -> Tensor:
        """codes [K, T] -> waveform [C, T * hop_length]. Some groups may have a codebook more than the others."""
        codec = self.parts.codec
        codes = F.pad(codes, (0, 0, 0, -len(codes) % codec.num_groups), value=-1)
        return codec.decode(codes[None].to(next(codec.parameters()).device))[0].float().cpu()


def generate(
    model: AudioLM,
    prompts: Sequence[str | None],
    seconds: float,
    seeds: Sequence[int],
    sampling: Sampling | None = None,
    normalize: audio.Normalization = "loudness",
    fade: float = 0.01,
    stride_seconds: float | None = None,
) -> Generator[Progress, None, list[Tensor]]:
    """As pipelines/generate.generate: one sound for each text and seed. The windows are the stages' own."""
    check(prompts, seconds, seeds)
    texts = None if all(text is None for text in prompts) else [text or "" for text in prompts]
    temperatures = TEMPERATURES[model.domain]
    request = Request(seeds, texts, None, seconds, sampling or Sampling(), temperatures)
    sounds = yield from model.generate(request)
    num_samples = round(seconds * model.sample_rate)
    sounds = [audio.normalize(sound[:, :num_samples], model.sample_rate, normalize) for sound in sounds]
    return [audio.fade(sound, model.sample_rate, fade) for sound in sounds]


def continue_audio(
    model: AudioLM,
    waveform: Tensor,
    sample_rate: int,
    text: str = "",
    seconds: float = 5.0,
    seeds: Sequence[int] = (0,),
    sampling: Sampling | None = None,
    fade: float = 0.01,
    stride_seconds: float | None = None,
) -> Generator[Progress, None, list[Tensor]]:
    """As pipelines/generate.continue_audio: the recording's own samples, then up to `seconds` of new sound."""
    check([text] * len(seeds), seconds, seeds, empty=True)
    codec = model.parts.codec
    tail = waveform[:, -max(1, round(model.room_seconds * sample_rate)) :]
    prompt = audio.resample(audio.remix(tail, codec.channels), sample_rate, codec.sample_rate)
    texts = [text] * len(seeds) if text else None
    sampling, temperatures = sampling or Sampling(), TEMPERATURES[model.domain]
    request = Request(seeds, texts, [prompt] * len(seeds), seconds, sampling, temperatures)
    sounds = yield from model.generate(request)
    seam, num_samples = prompt.shape[1] // codec.hop_length * codec.hop_length, round(seconds * sample_rate)
    made = [audio.remix(after(sound, seam, codec.sample_rate, sample_rate), len(waveform)) for sound in sounds]
    return [joined(waveform, new[:, :num_samples], sample_rate, fade) for new in made]


def load(folder: str | os.PathLike[str], device: str = "cpu", domain: Domain = "speech", lanes: int = 1) -> AudioLM:
    """A model folder (hub/stages.py). Raises ModelError and CheckpointError."""
    parts = stages.load(folder, device)
    return AudioLM(*parts[:6], domain, lanes, parts.drafts)


def _seed(row: _Row, stage: int, window: int) -> int:
    return window_seed(window_seed(row.seed, stage), window)
