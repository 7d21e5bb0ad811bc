"""High Fidelity Neural Audio Compression (EnCodec, 2210.13438), section 3.3: a small causal transformer that says how
likely each code of the next frame is, for an arithmetic coder.

    codes [B, K, T] --K embeddings, summed--> norm --+ sinusoids--> post-norm layers --K heads--> [B, K, T, V]

All codebooks of a frame are predicted at once, from the frames before it. A layer attends to `past_context` frames
before a frame; before the first frame stands one zero vector, which is seen until it is that far away.

A coder needs the very same probabilities on both sides, to the bit, and floating-point sums depend on their order,
which depends on the shapes of the matrices. So there are two ways to run the same weights:

- `EntropyLM.step` computes as the `encodec` package does, operation for operation, so that each reads what the other
  wrote on the same machine. It is EnCodec's own way for its own streams: one frame at a time, on both sides.
- `ExactEntropyLM` keeps every number on a grid so coarse that no sum is ever rounded (ops/exact.py). Then the order
  does not matter: one frame at a time, a block of frames or a batch of streams give equal bits, on any machine. Our own
  streams use it: encoding reads whole blocks in parallel, decoding goes step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiogen_cli.errors import InputError, ModelError
from audiogen_cli.ops import exact
from audiogen_cli.ops.transformer import gaussian, sinusoids

NO_CODE = -1  # in the place of a code that is not there: the frame before the first


@dataclass(frozen=True)
class EntropyLMConfig:
    """past_context: frames before a frame that a layer sees (EnCodec: 3.5 s). codec_fingerprint: whose codes these are
    (Codec.fingerprint); "" is not said. The defaults are those of EnCodec's 24 kHz model."""

    num_codebooks: int = 32
    codebook_size: int = 1024
    dim: int = 200
    num_layers: int = 5
    num_heads: int = 8
    hidden_scale: float = 4.0
    past_context: int = 262
    frame_rate: float = 75.0
    codec_fingerprint: str = ""

    def __post_init__(self) -> None:
        if self.dim % self.num_heads or self.dim % 2:
            raise ValueError(f"dim {self.dim} must be even and a multiple of the {self.num_heads} heads; change one")
        if min(self.num_codebooks, self.codebook_size, self.num_layers, self.past_context) < 1:
            raise ValueError("num_codebooks, codebook_size, num_layers and past_context must be 1 or more")


class State(NamedTuple):
    """What a stream remembers. past: per layer what it keeps of up to `past_context` frames; offset: frames read."""

    past: tuple[Tensor, ...]
    offset: int = 0


class Layer(nn.Module):
    """Post-norm, GELU, no dropout. Keys and values come from what the layer was given, past frames included."""

    def __init__(self, config: EntropyLMConfig) -> None:
        super().__init__()
        dim, hidden = config.dim, int(config.dim * config.hidden_scale)
        self.past_context = config.past_context
        self.self_attn = nn.MultiheadAttention(dim, config.num_heads, batch_first=True)
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.norm2 = nn.LayerNorm(dim, eps=1e-5)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, S, D], past [B, P, D] -> output [B, S, D], the past of the next call."""
        keys = torch.cat([past, x], dim=1)  # [B, P + S, D]
        hidden = ~visible(x.shape[1], keys.shape[1], self.past_context, x.device)
        heard = self.self_attn(x, keys, keys, attn_mask=hidden, need_weights=False)[0]
        x = self.norm1(x + heard)
        x = self.norm2(x + self.linear2(F.gelu(self.linear1(x))))
        return x, keys[:, -self.past_context :]


class EntropyLM(nn.Module):
    def __init__(self, config: EntropyLMConfig) -> None:
        super().__init__()
        self.config = config
        size, dim, count = config.codebook_size, config.dim, config.num_codebooks
        self.emb = nn.ModuleList(nn.Embedding(size + 1, dim) for _ in range(count))
        self.norm_in = nn.LayerNorm(dim, eps=1e-5)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.heads = nn.ModuleList(nn.Linear(dim, size) for _ in range(count))
        self._init_weights()

    def start(self, batch: int = 1) -> State:
        """Before the first frame: one zero vector [B, 1, D] in every layer."""
        like = self.norm_in.weight
        return State(tuple(like.new_zeros(batch, 1, self.config.dim) for _ in self.layers))

    def forward(self, previous: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """previous [B, K', S]: the frame before each of S frames, NO_CODE where there is none; K' <= K codebooks.

        Returns the logits [B, K', S, V] of those S frames, and the state with which to go on.
        """
        state = state or self.start(previous.shape[0])
        used = _used(previous, self.config)
        x: Tensor = sum(emb(1 + previous[:, k]) for k, emb in zip(range(used), self.emb, strict=False))
        position = torch.arange(state.offset, state.offset + x.shape[1], device=x.device)
        x = self.norm_in(x) + sinusoids(position, self.config.dim).to(x.dtype)  # [B, S, D]
        past = []
        for layer, before in zip(self.layers, state.past, strict=True):
            x, kept = layer(x, before)
            past.append(kept)
        heads = zip(range(used), self.heads, strict=False)
        return torch.stack([head(x) for _, head in heads], dim=1), State(tuple(past), state.offset + x.shape[1])

    @torch.no_grad()
    def read(self, previous: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """As `forward`, but probabilities [B, K', S, V]. Blocks of frames equal `step` but for the last bits: they are
        for measuring, not for coding."""
        logits, state = self(previous, state)
        return _softmax(logits), state

    def step(self, previous: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """previous [B, K'], the codes of the frame before (NO_CODE before the first) -> probabilities [B, K', V].

        To the bit what the `encodec` package computes for B = 1, when torch runs as many threads on both sides.
        """
        probabilities, state = self.read(previous[..., None], state)
        return probabilities[:, :, 0], state

    def probabilities(self, codes: Tensor, block: int = 256) -> Tensor:
        """codes [B, K', T], a whole stream -> probabilities [B, K', T, V] of each frame given those before it."""
        return in_blocks(self.read, codes, block)

    def loss(self, codes: Tensor, offset: int = 0, frame_mask: Tensor | None = None) -> Tensor:
        """Cross-entropy [K'] in nats per code of codes [B, K', T]; frame_mask: bool [B, T], True where a frame is
        real. `offset`: where in a longer stream it pretends to stand."""
        logits, _ = self(shifted(codes), self.start(codes.shape[0])._replace(offset=offset))
        each = F.cross_entropy(logits.float().flatten(0, 2), codes.flatten(), reduction="none").view_as(codes)
        if frame_mask is None:
            return each.mean(dim=(0, 2))
        return (each * frame_mask[:, None]).sum(dim=(0, 2)) / frame_mask.sum().clamp_min(1)

    @torch.no_grad()
    def _init_weights(self) -> None:
        """As torch does, but for the heads: small, so that training begins at log2(V) bits per code."""
        for head in self.heads:
            gaussian(head.weight, self.config.dim, scale=0.1)  # type: ignore[arg-type]
            head.bias.zero_()  # type: ignore[operator]


class ExactEntropyLM:
    """The weights of an `EntropyLM`, computed on a grid and on the CPU: any blocks and batches give the same bits."""

    def __init__(self, lm: EntropyLM) -> None:
        """Raises ModelError when the model or its weights are too large for exact sums."""
        self.config = lm.config
        if lm.config.dim > exact.WIDEST or lm.config.past_context >= exact.MOST_KEYS:
            raise ModelError(
                f"an entropy model is computed exactly up to width {exact.WIDEST} and fewer than {exact.MOST_KEYS} "
                "frames of the past; train a smaller one."
            )
        state = {name: tensor.detach().cpu() for name, tensor in lm.state_dict().items()}
        count = lm.config.num_codebooks
        self._emb = [exact.keep(exact.weight(state[f"emb.{k}.weight"])) for k in range(count)]
        self._norm_in = _ExactNorm(state, "norm_in")
        self._layers = [_ExactLayer(lm.config, state, f"layers.{i}") for i in range(lm.config.num_layers)]
        weight, bias = (torch.cat([state[f"heads.{k}.{name}"] for k in range(count)]) for name in ("weight", "bias"))
        weight, bias = weight.double() * exact.LOG2_E, bias.double() * exact.LOG2_E  # exponents of 2, not of e
        self._heads = _ExactLinear(weight, bias, unit=exact.OCTAVE)

    def start(self, batch: int = 1) -> State:
        """Before the first frame."""
        return State(tuple(layer.start(batch) for layer in self._layers))

    @torch.no_grad()
    def read(self, previous: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """previous [B, K', S]: the frame before each of S frames, NO_CODE where there is none; K' <= K codebooks.

        Returns the probabilities [B, K', S, V] of those frames in float32, and the state with which to go on.
        """
        state = state or self.start(previous.shape[0])
        used, frames = _used(previous, self.config), previous.shape[2]
        x = torch.stack([emb[1 + previous[:, k]] for k, emb in zip(range(used), self._emb, strict=False)]).sum(0)
        x = self._norm_in(x) + exact.sinusoids(state.offset, frames, self.config.dim)  # [B, S, D]
        known = state.past[0].shape[3] + frames
        hidden = ~visible(frames, known, self.config.past_context) if frames > 1 else None  # one sees all that is kept
        past = []
        for layer, before in zip(self._layers, state.past, strict=True):
            x, kept = layer(exact.keep(x), before, hidden)
            past.append(kept)
        size = self.config.codebook_size
        share = exact.counts(self._heads(x, rows=used * size).unflatten(-1, (used, size)))  # [B, S, K', V]
        probabilities = (share / share.sum(-1, keepdim=True)).float().transpose(1, 2)
        return probabilities, State(tuple(past), state.offset + frames)

    def step(self, previous: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """previous [B, K'], the codes of the frame before (NO_CODE before the first) -> probabilities [B, K', V]."""
        probabilities, state = self.read(previous[..., None], state)
        return probabilities[:, :, 0], state

    def probabilities(self, codes: Tensor, block: int = 32) -> Tensor:
        """codes [B, K', T], a whole stream -> probabilities [B, K', T, V]: those of `step`, to the bit."""
        return in_blocks(self.read, codes, block)


class _ExactLinear:
    """Its weight lies in memory column by column, which a single frame goes through a third faster."""

    def __init__(self, weight: Tensor, bias: Tensor, unit: float = 1.0) -> None:
        self.weight, self.bias = exact.weight(weight, unit).t().contiguous().t(), exact.weight(bias, unit)

    def __call__(self, x: Tensor, rows: int | None = None) -> Tensor:
        return exact.linear(x, self.weight[:rows], self.bias[:rows])


class _ExactNorm:
    def __init__(self, state: Mapping[str, Tensor], name: str) -> None:
        self.scale, self.bias = exact.weight(state[f"{name}.weight"]), exact.weight(state[f"{name}.bias"])

    def __call__(self, x: Tensor) -> Tensor:
        return exact.layer_norm(x, self.scale, self.bias, eps=1e-5)


class _ExactLayer:
    """`Layer` on the grid. What it keeps of the past is keys and values [2, B, H, P, D/H], not what they come from."""

    def __init__(self, config: EntropyLMConfig, state: Mapping[str, Tensor], name: str) -> None:
        self.num_heads, self.past_context = config.num_heads, config.past_context
        attention = f"{name}.self_attn"
        self.in_proj = _ExactLinear(state[f"{attention}.in_proj_weight"], state[f"{attention}.in_proj_bias"])
        names = (f"{attention}.out_proj", f"{name}.linear1", f"{name}.linear2")
        linears = [_ExactLinear(state[f"{name}.weight"], state[f"{name}.bias"]) for name in names]
        self.out_proj, self.linear1, self.linear2 = linears
        self.norm1, self.norm2 = (_ExactNorm(state, f"{name}.{norm}") for norm in ("norm1", "norm2"))

    def start(self, batch: int) -> Tensor:
        """Keys and values of the zero vector before the first frame."""
        zero = torch.zeros(batch, 1, self.in_proj.weight.shape[1], dtype=torch.float64)
        return self._heads(zero)[1:]

    def __call__(self, x: Tensor, past: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """x [B, S, D], hidden bool [S, P + S] -> output [B, S, D], the past of the next call."""
        projected = self._heads(x)  # [3, B, H, S, D/H]
        known = torch.cat([past, projected[1:]], dim=3)  # [2, B, H, P + S, D/H]
        heard = exact.attend(projected[0], known[0], known[1], hidden)
        x = self.norm1(x + exact.keep(self.out_proj(heard.transpose(1, 2).flatten(2))))
        x = self.norm2(x + exact.keep(self.linear2(exact.gelu(self.linear1(x)))))
        return x, known[:, :, :, -self.past_context :]

    def _heads(self, x: Tensor) -> Tensor:
        split = exact.keep(self.in_proj(x)).unflatten(-1, (3, self.num_heads, -1))  # [B, S, 3, H, D/H]
        return split.permute(2, 0, 3, 1, 4)


Reader = Callable[[Tensor, State | None], tuple[Tensor, State]]


def visible(num_queries: int, num_keys: int, past_context: int, device: torch.device | None = None) -> Tensor:
    """bool [Q, K]: a query, of the last Q keys, sees itself and `past_context` keys before it."""
    query = torch.arange(num_keys - num_queries, num_keys, device=device)[:, None]
    delta = query - torch.arange(num_keys, device=device)
    return (delta >= 0) & (delta <= past_context)


def shifted(codes: Tensor, before: Tensor | None = None) -> Tensor:
    """codes [B, K, T] -> the frame before each frame; `before` [B, K] is the one before the first, None: none."""
    first = torch.full_like(codes[..., 0], NO_CODE) if before is None else before
    return torch.cat([first[..., None], codes[..., :-1]], dim=-1)


def _used(previous: Tensor, config: EntropyLMConfig) -> int:
    """K'. Raises InputError for codes [B, K', S] that the model does not know."""
    if previous.ndim != 3 or not 1 <= previous.shape[1] <= config.num_codebooks:
        expected = f"[batch, 1 to {config.num_codebooks}, frames]"
        raise InputError(f"the entropy model was given codes of the shape {list(previous.shape)}; give {expected}.")
    return previous.shape[1]


def _softmax(logits: Tensor) -> Tensor:
    """Over the last dimension of [B, K, S, V], laid out as EnCodec's [B, V, K, S]: so are its sums ordered."""
    return torch.softmax(logits.permute(0, 3, 1, 2), dim=1).permute(0, 2, 3, 1)


def in_blocks(read: Reader, codes: Tensor, block: int) -> Tensor:
    """Probabilities [B, K, T, V] of all frames of `codes` [B, K, T], `block` frames at a time."""
    previous = shifted(codes)
    state, found = None, []
    for piece in previous.split(block, dim=-1):
        probabilities, state = read(piece, state)
        found.append(probabilities)
    return torch.cat(found, dim=2)


ENCODEC_LM_24KHZ = EntropyLMConfig()
ENCODEC_LM_48KHZ = EntropyLMConfig(num_codebooks=16, past_context=525, frame_rate=150.0)
