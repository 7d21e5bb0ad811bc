"""Flow matching (2210.02747) on a codec's latents, from text, as JASCO has it (2406.10970) but without its controls.

Where a language model draws codes one after the other, here all frames of a window come out of noise together. The
network learns which way to go from where it is, at time t between noise (0) and sound (1):

    x_t = (1 - t) noise + t latents          velocity(x_t, t, text) is to be latents - noise

Its latents are the codec's before they are quantized, so that nothing is lost to codes. A transformer in which every
frame hears every other one; text by cross-attention; time and the mean of the text's vectors through adaptive norms.
Frames that are known (the end of a recording to continue) stand in their place, undisturbed, with a mark.

Or its frames are patches of the log mel spectrogram that a vocoder makes audible (`space` "mel"): 640 numbers, of which
it makes those along the `axes` with most of the spread. What is left, fine and faint, is noise of the size that it has
on average, the same each time. A hundred such axes keep more of a sound than as many latents of a codec that was made
to be quantized.

Or it begins at the time `sketched` with what a language model has drawn in codes, and paints over it (SDEdit,
2108.01073). The loop from noise to sound is models/flow_decoding.py.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.errors import ConfigError
from audiogen_cli.ops.adaptive import AdaptiveNorm
from audiogen_cli.ops.attention import Linear, Memory, Rotary
from audiogen_cli.ops.transformer import Transformer, TransformerConfig, gaussian, sinusoids

_TIME_DIM = 256
_TIME_SCALE = 1000.0
_NOISE_FRAMES = 512  # after which the noise begins again
_BETWEEN = ("transformer.", "condition_proj.", "mean_proj.", "time_proj.", "out_norm.")


@dataclass(frozen=True)
class FlowConfig:
    """latent_dim, frame_rate, codec_fingerprint: of the codec. window_seconds: the longest stretch it learnt.
    sketched: where it begins when it paints over what a language model has drawn, 0 (noise) to 1 (as it was drawn).
    emphasis, sketching: how many times as far beyond 1 its own guidance goes then, and the language model's. space:
    what its frames are. axes: how many numbers of a frame it makes, the rest is noise; 0 is all of them."""

    latent_dim: int = 96
    dim: int = 320
    num_layers: int = 6
    num_heads: int = 5
    hidden_scale: int = 4
    condition_dim: int = 512
    dropout: float = 0.0
    window_seconds: float = 5.2
    frame_rate: float = 50.0
    codec_fingerprint: str = ""
    sketched: float = 0.5
    emphasis: float = 1.6
    sketching: float = 1.0
    space: Literal["latents", "mel"] = "latents"
    axes: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.sketched <= 1:
            raise ValueError(f"sketched must lie in 0 .. 1, not {self.sketched}; change it")
        if not 0 <= self.axes <= self.latent_dim:
            raise ValueError(
                f"axes must lie in 0 .. {self.latent_dim}, the numbers of a frame, not {self.axes}; change it"
            )
        if self.dim % self.num_heads or (self.dim // self.num_heads) % 2:
            raise ValueError(
                f"dim {self.dim} must give each of the {self.num_heads} heads the same even width; change one"
            )

    @property
    def made(self) -> int:
        """How many numbers of a frame the network makes."""
        return self.axes or self.latent_dim

    def transformer(self) -> TransformerConfig:
        return TransformerConfig(
            dim=self.dim,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            hidden_scale=self.hidden_scale,
            dropout=self.dropout,
            adaptive=True,
        )


class Flow(nn.Module):
    """`centre`, `whiten`, `colour` say how latents are turned and scaled (`fit`); all else here is in those terms.
    `rest`: the other axes, as long as the spread along them."""

    centre: Tensor
    whiten: Tensor
    colour: Tensor
    rest: Tensor

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        latent, made, dim = config.latent_dim, config.made, config.dim
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("whiten", torch.eye(latent, made))
        self.register_buffer("colour", torch.eye(made, latent))
        if made < latent:
            self.register_buffer("rest", torch.zeros(latent - made, latent))
        self.input_proj = Linear(2 * made + 1, dim)
        self.condition_proj = Linear(config.condition_dim, dim)
        self.mean_proj = nn.Linear(config.condition_dim, dim)
        self.time_proj = nn.Sequential(nn.Linear(_TIME_DIM, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.transformer = Transformer(config.transformer())
        self.out_norm = AdaptiveNorm(dim)
        self.output_proj = Linear(dim, made)
        self._init_weights()

    @torch.no_grad()
    def fit(self, latents: Tensor, power: float = 0.4) -> None:
        """Learns from latents [N, D] how to turn them to their principal axes and to even out those axes' spreads,
        to their `power`; their variance becomes 1 on average.

        A codec's latents are far from round: of the bundled one's axes the first, loudness, has a hundred times the
        spread of the last. Left so, noise would drown the fine ones until the very end.
        """
        latents = latents.double()
        centre = latents.mean(dim=0)
        variances, axes = torch.linalg.eigh(torch.cov((latents - centre).T))
        spreads = variances.clamp_min(1e-8).sqrt()
        self.centre.copy_(centre)
        left = len(spreads) - self.config.made
        if left:
            self.rest.copy_((axes[:, :left] * spreads[:left]).T)
        axes, spreads = axes[:, left:], spreads[left:]  # they come in ascending order
        scale = spreads.clamp_min(1e-3 * spreads.max()) ** (power - 1)
        scale = scale / (spreads * scale).square().mean().sqrt()
        self.whiten.copy_(axes * scale)
        self.colour.copy_((axes / scale).T)

    @torch.no_grad()
    def begin_with(self, other: Flow) -> None:
        """Takes over all of another flow's that lies between the ends: what it knows of texts and of the order of
        things. Raises ConfigError when that has another shape."""
        own = self.state_dict()
        theirs = {key: tensor for key, tensor in other.state_dict().items() if key.startswith(_BETWEEN)}
        wrong = next((key for key, tensor in theirs.items() if key not in own or own[key].shape != tensor.shape), None)
        if wrong:
            raise ConfigError(f"the flow to begin with has another shape ({wrong}); make dim and num_layers alike.")
        self.load_state_dict(theirs, strict=False)

    def whitened(self, latents: Tensor) -> Tensor:
        """[B, D, T] of the codec -> [B, T, axes] of this model."""
        return (latents.transpose(1, 2).float() - self.centre) @ self.whiten

    def coloured(self, frames: Tensor) -> Tensor:
        """The way back: [B, T, axes] -> [B, D, T], with noise along what was left out."""
        latents = frames @ self.colour + self.centre
        if self.config.made < self.config.latent_dim:
            places = torch.arange(frames.shape[1]) % _NOISE_FRAMES
            latents = latents + _noise(len(self.rest))[places].to(frames) @ self.rest
        return latents.transpose(1, 2)

    def remember(self, condition: Condition) -> list[Memory]:
        """What every layer's cross-attention reads of a text; it is the same at all times. One zero row, "nothing",
        stands before it: without a text it is all there is."""
        heard: Tensor = self.condition_proj(condition.embedding) * condition.mask[..., None]
        seen = F.pad(condition.mask, (1, 0), value=True)[:, None, None]  # [B, 1, 1, 1 + L]
        bias = heard.new_zeros(seen.shape).masked_fill_(~seen, -torch.inf)
        return self.transformer.remember(F.pad(heard, (0, 0, 1, 0)), bias)

    def forward(
        self,
        noisy: Tensor,
        time: Tensor,
        condition: Condition,
        known: Tensor | None = None,
        memory: list[Memory] | None = None,
    ) -> Tensor:
        """noisy [B, T, D] at time [B], 0 to 1 -> velocity [B, T, D]. known: bool [B, T], frames of `noisy` that are
        not noisy at all. memory: of `remember`, for many calls under one condition."""
        marked = noisy.new_zeros(*noisy.shape[:2], 1) if known is None else known[..., None].to(noisy.dtype)
        x = self.input_proj(torch.cat([noisy * (1 - marked), noisy * marked, marked], dim=-1))
        setting = self._setting(time, condition)
        memory = self.remember(condition) if memory is None else memory
        position = torch.arange(x.shape[1], device=x.device, dtype=torch.float32)
        rotary = Rotary(position, self.config.dim // self.config.num_heads, x)
        x = self.transformer(x, memory, rotary=rotary, shared=x.shape[1], setting=setting)
        velocity: Tensor = self.output_proj(self.out_norm(x, setting))
        return velocity

    def loss(
        self, frames: Tensor, condition: Condition, noise: Tensor, time: Tensor, known: Tensor | None = None
    ) -> Tensor:
        """Mean squared error of the velocity, over the frames that are not known. frames, noise [B, T, D], time [B]."""
        wanted = frames - noise
        noisy = noise + wanted * time[:, None, None]
        hidden = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device) if known is None else ~known
        noisy = torch.where(hidden[..., None], noisy, frames)
        error = (self(noisy, time, condition, known).float() - wanted).square().mean(dim=-1)  # [B, T]
        return (error * hidden).sum() / hidden.sum().clamp_min(1)

    def _setting(self, time: Tensor, condition: Condition) -> Tensor:
        """[B, D], what the norms hear: the time, and the mean of the text's vectors; zero without a text."""
        weight = condition.mask[..., None].to(condition.embedding.dtype)
        mean = (self.mean_proj(condition.embedding) * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1)
        placed = sinusoids(time * _TIME_SCALE, _TIME_DIM).to(condition.embedding.dtype)
        setting: Tensor = F.silu(self.time_proj(placed) + mean)
        return setting

    @torch.no_grad()
    def _init_weights(self) -> None:
        """As the transformer's: Gaussian of std 1 / sqrt(fan in). The output begins at zero, as the mean velocity."""
        for module in (self.input_proj, self.condition_proj, self.mean_proj, self.time_proj[0], self.time_proj[2]):
            gaussian(module.weight, module.weight.shape[1])  # type: ignore[arg-type, index]
            module.bias.zero_()  # type: ignore[operator]
        self.output_proj.weight.zero_()
        self.output_proj.bias.zero_()


@functools.lru_cache(maxsize=4)
def _noise(dim: int) -> Tensor:
    """[_NOISE_FRAMES, dim]"""
    return torch.randn(_NOISE_FRAMES, dim, generator=torch.Generator().manual_seed(1))
