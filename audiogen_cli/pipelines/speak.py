"""VALL-E (2301.02111): a text and a voice -> codes -> waveform.

    speaker = Speaker.load("runs/valle/model")
    spoken = speaker("Rain in the morning.", voice="prompt.wav", transcript="what the prompt says", seed=1)
    spoken.waveform                        # [C, N], the new speech alone
    spoken.trouble                         # "" when it came to its end, else a sentence that says what went wrong

A long text is said sentence after sentence, each after the same voice, as far as the model's window asks for that. What
does not reach its end in the time that such a text may take, or is over too soon to have said it all, is tried again
with another seed, which follows from the first; so the same seed makes the same bytes, however many tries it takes.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from audiogen_cli.conditioners.symbols import sentences
from audiogen_cli.data import audio
from audiogen_cli.errors import AudioError, InputError, ModelError
from audiogen_cli.hub import checkpoint
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.decoding import Sampling, finish
from audiogen_cli.models.valle import VallE
from audiogen_cli.models.valle_decoding import Made, Utterance, speak
from audiogen_cli.pipelines.generate import Progress, window_seed
from audiogen_cli.pipelines.recipe import check_prompt

TRIES = 3


@dataclass(frozen=True)
class Request:
    """voice: [C, N] at the codec's rate, or None: any. transcript: what it says; without it only the codebooks after
    the first follow the voice, and no more than the model's prompt_seconds of it are heard. tries: of each sentence."""

    text: str
    seed: int
    voice: Tensor | None = None
    transcript: str = ""
    sampling: Sampling = field(default_factory=lambda: Sampling(1.0, 0, 0.9))
    tries: int = TRIES


class Spoken(NamedTuple):
    """waveform: [C, N]; trouble: "" or a sentence; tries: how many the sentence that needed most took."""

    waveform: Tensor
    trouble: str
    tries: int


class Speaker:
    """A VALL-E and its codec. Raises ModelError when they do not fit."""

    def __init__(self, codec: Codec, model: VallE, lanes: int = 1) -> None:
        config = model.config
        if config.codec and config.codec != codec.fingerprint():
            raise ModelError(
                f"the VALL-E speaks the codes of codec {config.codec}, and this is {codec.fingerprint()}; use its own."
            )
        if config.num_codebooks > codec.num_codebooks or config.codebook_size != codec.codebook_size:
            raise ModelError("the VALL-E makes other codes than its codec has; use the codec it was trained with.")
        self.codec, self.model, self.lanes = codec.eval(), model.eval(), lanes

    @classmethod
    def load(cls, folder: str | os.PathLike[str], device: str = "cpu", lanes: int = 1) -> Speaker:
        """A model folder with the parts codec and valle. Raises CheckpointError for a damaged one, ModelError."""
        codec: Any = checkpoint.load(Path(folder) / "codec", device, expect=checkpoint.CODECS)
        model: Any = checkpoint.load(Path(folder) / "valle", device, expect=("valle",))
        return cls(codec, model, lanes)

    @property
    def sample_rate(self) -> int:
        return self.codec.sample_rate

    def __call__(
        self,
        text: str,
        *,
        voice: str | os.PathLike[str] | None = None,
        transcript: str = "",
        seed: int = 0,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 0.9,
        tries: int = TRIES,
    ) -> Spoken:
        """voice: a recording of any rate and number of channels, transcript, tries: see `Request`; temperature, top_k,
        top_p: see models/decoding.Sampling, top_p > 0 overrides top_k. Raises InputError and AudioError."""
        heard = None if voice is None else audio.read(voice, self.sample_rate, self.codec.channels).waveform
        sampling = Sampling(temperature, top_k, top_p)
        return finish(self.speak(Request(text, seed, heard, transcript, sampling, tries)))

    def speak(self, request: Request) -> Generator[Progress, None, Spoken]:
        """Yields how far it is, in frames of what the text usually takes. Raises InputError and AudioError."""
        if request.tries < 1:
            raise InputError(f"{request.tries} tries say nothing; allow one or more.")
        voice, before = self._voice(request)
        parts = self._parts(request.text, before, voice)
        expected = [max(1, round(self.model.config.frames(part))) for part in parts]
        codes, troubles, most_tries, done = list[Tensor](), list[str](), 0, 0
        for number, part in enumerate(parts):
            for attempt in range(request.tries):
                seed = window_seed(window_seed(request.seed, number), attempt)
                most = self.model.config.limits(part)[1]
                said = self.model.config.symbols.joined(before, part)
                whole = Utterance(said, voice, most, seed, transcribed=bool(len(before)))
                made = yield from self._made(whole, request.sampling, done, expected[number], sum(expected))
                trouble = self._trouble(made, part)
                if not trouble:
                    break
            codes.append(made.codes)
            troubles += [trouble] if trouble else []
            most_tries, done = max(most_tries, attempt + 1), done + expected[number]
        return Spoken(self._sound(torch.cat(codes, dim=1)), _sentence(troubles, len(parts), request.tries), most_tries)

    def _made(
        self, utterance: Utterance, sampling: Sampling, done: int, expected: int, total: int
    ) -> Generator[Progress, None, Made]:
        steps = speak(self.model, [utterance], sampling, lanes=self.lanes)
        known = utterance.voice.shape[1] if utterance.transcribed else 0
        while True:
            try:
                yield Progress(done + min(expected, max(0, next(steps) - known)), total, 1)
            except StopIteration as stop:
                [made] = stop.value
                return made

    def _trouble(self, made: Made, text: Tensor) -> str:
        rate = self.model.config.frame_rate
        if not made.ended:
            return f"it was not at its end after {made.codes.shape[1] / rate:.1f} s"
        if made.codes.shape[1] < self.model.config.limits(text)[0]:
            return f"it was over after {made.codes.shape[1] / rate:.2g} s, too soon to have said all"
        return ""

    @torch.inference_mode()
    def _voice(self, request: Request) -> tuple[Tensor, Tensor]:
        """The voice as codes [K, P], and the symbols [L] of what it says, which may be none."""
        config, waveform = self.model.config, request.voice
        if waveform is None:
            if request.transcript:
                raise InputError("a transcript says what a voice's recording says; give the recording too, or neither.")
            return torch.empty(config.num_codebooks, 0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
        frames = waveform.shape[1] // self.codec.hop_length
        if not request.transcript:
            frames = min(frames, round(config.prompt_seconds * config.frame_rate))
        if not frames:
            raise AudioError(f"the voice lasts less than a frame of {1 / config.frame_rate:.3g} s; give a longer one.")
        waveform = waveform[:, : frames * self.codec.hop_length]
        codes = self.codec.encode(waveform[None].to(self._device), config.num_codebooks)[0].cpu()
        said = config.symbols(request.transcript) if request.transcript else torch.empty(0, dtype=torch.int64)
        return codes, said

    def _parts(self, text: str, before: Tensor, voice: Tensor) -> list[Tensor]:
        """The text in symbols, in parts that the model can say after the voice. Raises InputError."""
        config = self.model.config
        try:
            check_prompt(text)
        except ValueError as error:
            raise InputError(str(error)) from error
        frames = config.window_frames - voice.shape[1]
        room = int(frames / config.pace.usual)
        while True:
            texts = sentences(text, room) if config.symbols.kind == "bytes" and room > 0 else [text]
            parts = [config.symbols(part) for part in texts]
            longest = max(range(len(parts)), key=lambda number: config.frames(parts[number]))
            if config.frames(parts[longest]) <= frames:
                break
            if len(parts[longest]) > room or room < 2:  # it cannot be divided any more
                raise InputError(
                    f"this model speaks {config.window_seconds:g} s at once, the voice included, which has no room for "
                    f"'{texts[longest][:40]}'; shorten the voice's recording or the text."
                )
            room = 3 * room // 4
        return parts

    @property
    def _device(self) -> torch.device:
        return next(self.codec.parameters()).device

    @torch.inference_mode()
    def _sound(self, codes: Tensor) -> Tensor:
        return self.codec.decode(codes[None].to(self._device))[0].float().cpu()


def _sentence(troubles: list[str], parts: int, tries: int) -> str:
    """What went wrong, or "" if nothing did."""
    if not troubles:
        return ""
    where = "" if parts == 1 else f" in {len(troubles)} of {parts} parts,"
    count = "one try" if tries == 1 else f"{tries} tries"
    return f"the speech went wrong,{where} after {count}: {troubles[0]}; take another seed, or allow more tries."
