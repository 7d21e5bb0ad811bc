"""A model that is loaded: its parts, that they fit together, and what they do together. Imports no torch by itself.

    text --T5--> condition --maker--> frames (codes, or latents) --painter, if there is one--> latents --codec--> sound

The maker is a language model, or a flow. hub/catalog.py finds and loads models; pipelines/generate.py makes sound.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiogen_cli.errors import ModelError
from audiogen_cli.hub.card import ModelCard

if TYPE_CHECKING:
    import torch

    from audiogen_cli.conditioners.lexicon import Lexicon
    from audiogen_cli.conditioners.text import T5Conditioner
    from audiogen_cli.models.clap import CLAP
    from audiogen_cli.models.codec import Codec, Latents
    from audiogen_cli.models.decoding import Sampling
    from audiogen_cli.models.flow import Flow
    from audiogen_cli.models.judge import Judge
    from audiogen_cli.models.lm import LM

SCORER, JUDGE = "clap", "judge"


@dataclass(frozen=True)
class Model:
    """A loaded model. `text` stays on the CPU in float32, `codec` in float32; a language model has the dtype asked for,
    a flow float32. What either makes are frames: codes [B, K, T], or latents [B, D, T]. painter: a flow that paints
    over the codes of a language model. lexicon: of words that no caption had."""

    name: str
    folder: Path
    hash: str
    card: ModelCard
    codec: Codec
    maker: LM | Flow
    text: T5Conditioner
    scored: bool = False
    painter: Flow | None = None
    lexicon: Lexicon | None = None

    def heard(self, prompt: str | None) -> str | None:
        """A prompt as the text encoder gets it: words that the model never met are read as others."""
        return prompt if prompt is None or self.lexicon is None else self.lexicon(prompt)

    @property
    def lm(self) -> LM:
        """The language model. Raises ModelError when a flow stands in its place."""
        from audiogen_cli.models.lm import LM

        if not isinstance(self.maker, LM):
            raise ModelError(f"{self.name} has no language model but a flow of latents; name another model.")
        return self.maker

    @property
    def flow(self) -> Flow | None:
        """The flow that makes or paints the sound, if one does."""
        from audiogen_cli.models.flow import Flow

        return self.maker if isinstance(self.maker, Flow) else self.painter

    @property
    def chooses(self) -> bool:
        """Whether it can choose among candidates: by its scorer, or by its flow."""
        return self.scored or self.flow is not None

    @property
    def latents(self) -> Latents:
        """The codec's latents, or its mels, as the flow has it that makes or paints the sound."""
        return self.codec.view("latents" if self.flow is None else self.flow.config.space)

    def frames(self, waveform: torch.Tensor) -> torch.Tensor:
        """waveform [B, C, N] as the model makes sound itself: in as many codebooks as it has, or in latents."""
        from audiogen_cli.models.lm import LM

        if isinstance(self.maker, LM):
            return self.codec.encode(waveform, self.maker.config.num_codebooks)
        return self.latents.latents(waveform)

    def sound(self, frames: torch.Tensor) -> torch.Tensor:
        """The way back, [B, C, T * hop_length]."""
        return self.latents.sound_of(frames) if frames.is_floating_point() else self.codec.decode(frames)

    def mixed(self, frames: torch.Tensor, settings: Sequence[bool]) -> torch.Tensor:
        """Frames of L sounds, [L, K or D, T] -> all of them at once, [C, T * hop_length]. settings: which of them are
        the place in which the others happen, and so as loud as these (`ops.blend.balance`)."""
        from audiogen_cli.ops.blend import blend

        if len(frames) == 1 or not frames.is_floating_point():
            return blend(self.sound(frames), settings)
        return self.latents.mixed(frames, settings)

    @property
    def licence(self) -> str:
        return self.card.licence

    @property
    def sample_rate(self) -> int:
        return self.codec.sample_rate

    @property
    def window_frames(self) -> int:
        """The longest stretch that the model hears at once."""
        seconds = self.card.window_seconds or self.maker.config.window_seconds
        return max(1, round(seconds * self.codec.frame_rate))

    @property
    def sampling(self) -> Sampling:
        from audiogen_cli.models.decoding import Sampling

        return Sampling(**dataclasses.asdict(self.card.sampling))

    @cached_property
    def clap(self) -> CLAP | None:
        """The scorer, on the CPU in float32, read when it is first asked for; None where there is none.

        Raises ModelError when it was trained with another text encoder.
        """
        return self._reader(SCORER) if self.scored else None

    @cached_property
    def judge(self) -> Judge | None:
        """What chooses among the candidates of a flow in its place; as `clap`."""
        return self._reader(JUDGE) if (self.folder / JUDGE).is_dir() else None

    def _reader(self, part: str) -> Any:
        from audiogen_cli.hub import checkpoint

        reader: Any = checkpoint.load(self.folder / part, "cpu", expect=(part,))
        if reader.config.text_fingerprint != self.text.fingerprint:
            raise ModelError(
                f"{self.folder}: the {part} reads texts by encoder {reader.config.text_fingerprint or 'unknown'}, and "
                f"the one there is {self.text.fingerprint}; put the {part} beside the encoder that it was trained with."
            )
        return reader


def check_fit(model: Model, part: LM | Flow | None) -> None:
    """Raises ModelError when a part was made for another codec or text encoder than is there."""
    from audiogen_cli.models.lm import LM

    if part is None:
        return
    config = part.config
    made_for, is_there = config.codec_fingerprint, model.codec.fingerprint()
    name, frames = ("language model", "codes") if isinstance(part, LM) else ("flow", "latents")
    if made_for != is_there:
        raise ModelError(
            f"{model.folder}: the {name} speaks the {frames} of codec {made_for or 'unknown'}, but the codec "
            f"there is {is_there}; put the codec beside it that it was trained with."
        )
    if isinstance(part, LM) and (
        part.config.num_codebooks > model.codec.num_codebooks or part.config.codebook_size != model.codec.codebook_size
    ):
        raise ModelError(f"{model.folder}: the language model has more codes than its codec; fetch the model again.")
    if not isinstance(part, LM):
        model.codec.view(part.config.space)
    if abs(config.frame_rate - model.codec.frame_rate) > 1e-3:
        raise ModelError(
            f"{model.folder}: the {name} makes {config.frame_rate:g} frames a second, its codec "
            f"{model.codec.frame_rate:g}; fetch the model again."
        )
    if getattr(config, "conditioning", "cross") != "none" and config.condition_dim != model.text.dim:
        raise ModelError(
            f"{model.folder}: the {name} wants text vectors of width {config.condition_dim}, its text encoder "
            f"makes {model.text.dim}; put the encoder there that it was trained with."
        )
