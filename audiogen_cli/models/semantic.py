"""Semantic tokens: what is said rather than how it sounds (AudioLM, 2209.03143, section III-B; GSLM, 2102.01192).

    waveform [N] --speech model, one layer--> features [T, D] --standardised--> --nearest of V centroids--> ids [T]

The speech model is any of transformers' HuBERT, wav2vec 2.0, WavLM, w2v-BERT 2.0, MERT or Whisper (its encoder). N
samples make T = ceil(N / hop_length) ids: the end is completed with silence. Recordings are heard one by one, as models
with a group-normalised front end (HuBERT base) need it, and in stretches of 30 s.

The centroids lie in one safetensors file with their statistics, and with what they are centroids of.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from audiogen_cli.config import from_dict, to_dict
from audiogen_cli.data import audio, joblib
from audiogen_cli.data.files import replacing
from audiogen_cli.errors import CheckpointError, ConfigError, InputError, ModelError
from audiogen_cli.quantizers import kmeans

PIECE_SECONDS = 30
DEFAULT_LAYER = 9
"""HuBERT base's ninth layer, whose clusters follow phones best (reference of the published 500 centroids)."""

Listener = Callable[[int, int], None]  # recordings done, of how many


@dataclass(frozen=True)
class KMeansConfig:
    """What centroids belong to. encoder: a Hub name or a folder's name; layer: 0 is the input of the first one.

    standardize: "dimension" gives every feature zero mean and unit variance (AudioLM), "none" takes them as they are
    (the published centroids of HuBERT). frame_rate in Hz.
    """

    encoder: str = "facebook/hubert-base-ls960"
    revision: str = ""
    layer: int = DEFAULT_LAYER
    sample_rate: int = 16_000
    frame_rate: float = 50.0
    standardize: Literal["dimension", "none"] = "none"


@dataclass(frozen=True)
class KMeans:
    """centroids [V, D] of standardised features; mean [D], std [D] of the features."""

    centroids: Tensor
    mean: Tensor
    std: Tensor
    config: KMeansConfig

    def __call__(self, features: Tensor) -> Tensor:
        """features [T, D] -> ids [T]."""
        return kmeans.nearest((features - self.mean) / self.std, self.centroids)

    def save(self, path: str | os.PathLike[str], force: bool = False) -> None:
        """Raises OutputError when the file is there or the disk refuses."""
        tensors = {name: getattr(self, name).contiguous() for name in ("centroids", "mean", "std")}
        data = save(tensors, {"kind": "kmeans", "config": json.dumps(to_dict(self.config))})
        with replacing(path, force) as file:
            file.write(data)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> KMeans:
        """Reads our file, or a published joblib file (`.bin`, `.km`, `.joblib`), of which nothing is executed.

        Raises CheckpointError when it is neither.
        """
        if Path(path).suffix != ".safetensors":
            return cls._of_joblib(path)
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in ("centroids", "mean", "std")}
            config = from_dict(KMeansConfig, json.loads(about["config"]), where=str(path))
        except (OSError, SafetensorError, KeyError, ConfigError, ValueError) as error:
            raise CheckpointError(
                f"{path} holds no centroids ({error}); fit them with `audiolm train kmeans`."
            ) from error
        return cls(**tensors, config=config)

    @classmethod
    def _of_joblib(cls, path: str | os.PathLike[str]) -> KMeans:
        centres = joblib.read(path).get("cluster_centers_")
        if centres is None or centres.ndim != 2:
            raise CheckpointError(f"{path} holds no cluster_centers_; give the k-means that scikit-learn saved.")
        centroids = torch.tensor(centres, dtype=torch.float32)
        return cls(centroids, torch.zeros(centroids.shape[1]), torch.ones(centroids.shape[1]), KMeansConfig())


class SpeechEncoder(nn.Module):
    """One layer's features of a speech model of transformers."""

    def __init__(self, model: nn.Module, layer: int, sample_rate: int, name: str = "", revision: str = "") -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.layer, self.sample_rate, self.name, self.revision = layer, sample_rate, name, revision
        config: Any = model.config
        if config.model_type not in _FAMILIES:
            raise ModelError(f"{name or 'the model'} is a {config.model_type}; use one of {', '.join(_FAMILIES)}.")
        self.hop_length, self._states = _FAMILIES[config.model_type](model, sample_rate)
        depth = getattr(config, "encoder_layers", None) or config.num_hidden_layers
        if not 0 <= layer <= depth:
            raise InputError(f"{name or 'the model'} has layers 0 to {depth}, not {layer}; choose another layer.")

    @classmethod
    def load(cls, name: str | os.PathLike[str], layer: int, revision: str = "") -> SpeechEncoder:
        """A folder, or a name on the Hub, as transformers loads it. Raises ModelError when it cannot be loaded."""
        if Path(name).is_file():
            raise ModelError(f"{name} is a file; name a folder in transformers' layout, which needs no fairseq.")
        from transformers import AutoModel

        about = _settings(str(name), revision)
        more = {"revision": revision} if revision else {}
        try:
            with _quiet():
                model = _mert(name, about, more) if _is_mert(about) else AutoModel.from_pretrained(name, **more)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(
                f"cannot load the speech model {name}: {reason}; name a folder or another model."
            ) from error
        return cls(model, layer, int(about.get("sampling_rate", 16_000)), str(name), revision)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """In transformers' layout, with the sample rate beside it."""
        with _quiet():
            self.model.save_pretrained(folder)  # type: ignore[operator]
        settings = {"sampling_rate": self.sample_rate}
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(settings) + "\n", encoding="utf-8")

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """waveform [N] at the encoder's rate -> features [ceil(N / hop_length), D], float32."""
        pieces = waveform.float().split(PIECE_SECONDS * self.sample_rate // self.hop_length * self.hop_length)
        return torch.cat([self._states(piece, self.layer) for piece in pieces])


class SemanticTokenizer(nn.Module):
    """waveform -> semantic ids. frame_rate: ids a second; codebook_size: V.

    It encodes as a codec of one codebook does, so that `audiolm prepare` can write its ids as it writes codes.
    """

    channels = num_codebooks = 1

    def __init__(self, encoder: SpeechEncoder, centroids: KMeans) -> None:
        super().__init__()
        self.encoder, self.kmeans = encoder, centroids
        self.sample_rate, self.hop_length = encoder.sample_rate, encoder.hop_length
        self.frame_rate = self.sample_rate / self.hop_length
        self.codebook_size = len(centroids.centroids)
        wanted = centroids.config
        if (wanted.sample_rate, wanted.frame_rate) != (self.sample_rate, self.frame_rate):
            raise ModelError(
                f"the centroids are of features at {wanted.frame_rate:g} Hz of {wanted.sample_rate} Hz sound, the "
                f"encoder makes {self.frame_rate:g} Hz of {self.sample_rate} Hz; use the one they were fitted on."
            )

    def forward(self, waveform: Tensor, input_sample_hz: int | None = None) -> Tensor:
        """waveform [N], [B, N] or [B, 1, N] at `input_sample_hz` (None: the encoder's own) -> ids [B, T] int64."""
        rows = waveform.reshape(-1, waveform.shape[-1])
        if input_sample_hz is not None:
            rows = audio.resample(rows.cpu(), input_sample_hz, self.sample_rate).to(waveform.device)
        return torch.stack([self.ids(row) for row in rows])

    def ids(self, waveform: Tensor) -> Tensor:
        """waveform [N] at the encoder's rate -> ids [T]."""
        device = next(self.encoder.parameters()).device
        return self.kmeans(self.encoder(waveform.to(device)).cpu())

    def encode(self, waveform: Tensor) -> Tensor:
        """waveform [B, 1, N] -> ids [B, 1, T]."""
        ids: Tensor = self(waveform)
        return ids[:, None]

    def fingerprint(self) -> str:
        """Twelve hex digits that name the meaning of the ids."""
        return hashlib.sha256(self.kmeans.centroids.half().numpy().tobytes()).hexdigest()[:12]


class HubertWithKmeans(SemanticTokenizer):
    """A tokenizer from a speech model (a folder, or a Hub name) and a file of centroids.

    output_layer: None is the one that the centroids are of. Raises ModelError and CheckpointError.
    """

    def __init__(
        self,
        checkpoint_path: str | os.PathLike[str],
        kmeans_path: str | os.PathLike[str],
        output_layer: int | None = None,
        revision: str = "",
    ) -> None:
        centroids = KMeans.load(kmeans_path)
        layer = centroids.config.layer
        if output_layer is not None and output_layer != layer:
            raise ModelError(
                f"{kmeans_path} holds centroids of layer {layer}, not {output_layer}; leave out the layer."
            )
        super().__init__(SpeechEncoder.load(checkpoint_path, layer, revision or centroids.config.revision), centroids)

    @classmethod
    def fit(
        cls,
        checkpoint_path: str | os.PathLike[str],
        folder: str | os.PathLike[str],
        codebook_size: int,
        output_layer: int = DEFAULT_LAYER,
        **more: Any,
    ) -> SemanticTokenizer:
        """Centroids of the recordings in a folder; `more` goes to `fit`. Save them with `.kmeans.save(path)`."""
        encoder = SpeechEncoder.load(checkpoint_path, output_layer)
        paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in audio.SUFFIXES)
        return SemanticTokenizer(encoder, fit(encoder, paths, codebook_size, **more))


def fit(
    encoder: SpeechEncoder,
    paths: Iterable[Path],
    codebook_size: int,
    standardize: Literal["dimension", "none"] = "dimension",
    max_frames: int = 200_000,
    seed: int = 0,
    listener: Listener | None = None,
) -> KMeans:
    """k-means over a random `max_frames` of all frames, which is what is kept in memory.

    Raises InputError when there are fewer frames than centroids.
    """
    frames = kmeans.sample(_heard(encoder, list(paths), listener), max_frames, seed)
    if not len(frames):
        raise InputError("there are no recordings to cluster; give a folder that holds some.")
    mean, std = torch.zeros(frames.shape[1]), torch.ones(frames.shape[1])
    if standardize == "dimension":
        mean, std = frames.mean(0), frames.std(0).clamp_min(1e-5)
    config = KMeansConfig(encoder.name, encoder.revision, encoder.layer, encoder.sample_rate)
    config = replace(config, frame_rate=encoder.sample_rate / encoder.hop_length, standardize=standardize)
    return KMeans(kmeans.fit((frames - mean) / std, codebook_size, seed=seed), mean, std, config)


def _heard(encoder: SpeechEncoder, paths: list[Path], listener: Listener | None) -> Iterator[Tensor]:
    for number, path in enumerate(paths, start=1):
        yield encoder(audio.read(path, encoder.sample_rate, 1).waveform[0]).cpu()
        if listener is not None:
            listener(number, len(paths))


States = Callable[[Tensor, int], Tensor]  # waveform [N] and a layer -> features [T, D]


def _convolutional(model: Any, sample_rate: int) -> tuple[int, States]:
    """HuBERT, wav2vec 2.0, WavLM: strided convolutions over the waveform, then a transformer.

    Models with a group norm in front (the base ones) were trained on the waveform as it is, those with layer norms (the
    large ones) on one of zero mean and unit variance, whatever their preprocessor_config.json says.
    """
    kernels, strides = model.config.conv_kernel, model.config.conv_stride
    hop, field = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        hop, field = hop * stride, field + (kernel - 1) * hop

    def states(waveform: Tensor, layer: int) -> Tensor:
        count = -(-len(waveform) // hop)
        if model.config.feat_extract_norm == "layer":
            waveform = (waveform - waveform.mean()) / torch.sqrt(waveform.var(unbiased=False) + 1e-7)
        padded = F.pad(waveform, (0, max(0, (count - 1) * hop + field - len(waveform))))
        return model(padded[None], output_hidden_states=True).hidden_states[layer][0, :count].float()

    return hop, states


def _filter_banks(model: Any, sample_rate: int) -> tuple[int, States]:
    """w2v-BERT 2.0: pairs of 80 log-mel bands every 10 ms."""
    from transformers import SeamlessM4TFeatureExtractor

    extractor = SeamlessM4TFeatureExtractor()
    hop = sample_rate // 50

    def states(waveform: Tensor, layer: int) -> Tensor:
        count = -(-len(waveform) // hop)
        padded = F.pad(waveform, (0, max(0, (2 * count - 1) * 160 + 400 - len(waveform))))
        heard = extractor(padded.cpu().numpy(), sampling_rate=16_000, return_tensors="pt")["input_features"]
        return model(heard.to(waveform.device), output_hidden_states=True).hidden_states[layer][0, :count].float()

    return hop, states


def _whisper(model: Any, sample_rate: int) -> tuple[int, States]:
    """Whisper's encoder, on the recording alone: the 30 s that it was trained with are not filled up with silence."""
    from transformers import WhisperFeatureExtractor

    encoder = model.encoder
    extractor = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
    hop = sample_rate // 50

    def states(waveform: Tensor, layer: int) -> Tensor:
        count = -(-len(waveform) // hop)
        padded = F.pad(waveform, (0, count * hop - len(waveform))).cpu().numpy()
        heard = extractor(padded, sampling_rate=16_000, padding="do_not_pad", truncation=False, return_tensors="pt")
        x = F.gelu(encoder.conv1(heard["input_features"].to(waveform.device)))
        x = F.gelu(encoder.conv2(x)).transpose(1, 2)  # [1, T, D]
        x = x + encoder.embed_positions.weight[: x.shape[1]]
        for block in encoder.layers[:layer]:
            x = block(x, None)
            x = x[0] if isinstance(x, tuple) else x
        return (encoder.layer_norm(x) if layer == len(encoder.layers) else x)[0, :count].float()

    return hop, states


_FAMILIES: dict[str, Callable[[Any, int], tuple[int, States]]] = {
    "hubert": _convolutional,
    "wav2vec2": _convolutional,
    "wavlm": _convolutional,
    "wav2vec2-bert": _filter_banks,
    "whisper": _whisper,
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bars, which are as before afterwards: only the command line speaks."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _settings(name: str, revision: str) -> dict[str, Any]:
    """preprocessor_config.json and config.json together, as far as they are there."""
    from transformers.utils.hub import cached_file

    found: dict[str, Any] = {}
    for file in ("preprocessor_config.json", "config.json"):
        try:
            path = cached_file(name, file, revision=revision or None, _raise_exceptions_for_missing_entries=False)
        except (OSError, ValueError):
            path = None  # loading the model itself says what is wrong
        if path is not None:
            found |= json.loads(Path(path).read_text(encoding="utf-8"))
    return found


def _is_mert(about: Mapping[str, Any]) -> bool:
    return about.get("model_type") == "mert_model"


def _mert(name: str | os.PathLike[str], about: Mapping[str, Any], more: Mapping[str, Any]) -> nn.Module:
    """MERT is HuBERT with other weights; its own code, which the Hub would run, is not needed."""
    from transformers import HubertConfig, HubertModel

    config = HubertConfig(**{key: value for key, value in about.items() if key not in ("model_type", "architectures")})
    model: nn.Module = HubertModel.from_pretrained(name, config=config, **more)
    return model
