"""Audio with neural codecs and language models. Names load on first use: importing the package imports no torch.

import audiogen_cli as audiolm

model = audiolm.load("sounds-small")
[waveform] = audiolm.finish(audiolm.generate(model, ["dog barking in rain"], seconds=5, seeds=[1]))  # [C, N]
audiolm.write("dog.wav", waveform, model.sample_rate)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audiogen_cli.data.audio import read, write
    from audiogen_cli.errors import AudiolmError
    from audiogen_cli.hub.catalog import load
    from audiogen_cli.hub.fairseq import FairseqVQWav2Vec
    from audiogen_cli.models.decoding import finish
    from audiogen_cli.models.semantic import HubertWithKmeans
    from audiogen_cli.models.stages import (
        CoarseAndFineTransformer,
        CoarseTransformer,
        FineTransformer,
        SemanticTransformer,
    )
    from audiogen_cli.models.streaming import decode_blocks, encode_blocks
    from audiogen_cli.models.valle import VallE, VallEConfig
    from audiogen_cli.pipelines.audiolm import AudioLM
    from audiogen_cli.pipelines.generate import continue_audio, generate
    from audiogen_cli.pipelines.speak import Speaker
    from audiogen_cli.training.audiolm_trainers import (
        CoarseTransformerTrainer,
        FineTransformerTrainer,
        SemanticTransformerTrainer,
    )
    from audiogen_cli.training.soundstream import SoundStreamTrainer
    from audiogen_cli.training.soundstream_losses import AudioLMSoundStream, MusicLMSoundStream, SoundStream

__version__ = "0.1.0"

__all__ = [
    "AudioLM",
    "AudioLMSoundStream",
    "AudiolmError",
    "CoarseAndFineTransformer",
    "CoarseTransformer",
    "CoarseTransformerTrainer",
    "FairseqVQWav2Vec",
    "FineTransformer",
    "FineTransformerTrainer",
    "HubertWithKmeans",
    "MusicLMSoundStream",
    "SemanticTransformer",
    "SemanticTransformerTrainer",
    "SoundStream",
    "SoundStreamTrainer",
    "Speaker",
    "VallE",
    "VallEConfig",
    "__version__",
    "continue_audio",
    "decode_blocks",
    "encode_blocks",
    "finish",
    "generate",
    "load",
    "read",
    "write",
]

_HOMES = {
    "AudioLM": "audiogen_cli.pipelines.audiolm",
    "AudioLMSoundStream": "audiogen_cli.training.soundstream_losses",
    "AudiolmError": "audiogen_cli.errors",
    "CoarseAndFineTransformer": "audiogen_cli.models.stages",
    "CoarseTransformer": "audiogen_cli.models.stages",
    "CoarseTransformerTrainer": "audiogen_cli.training.audiolm_trainers",
    "FairseqVQWav2Vec": "audiogen_cli.hub.fairseq",
    "FineTransformer": "audiogen_cli.models.stages",
    "FineTransformerTrainer": "audiogen_cli.training.audiolm_trainers",
    "HubertWithKmeans": "audiogen_cli.models.semantic",
    "MusicLMSoundStream": "audiogen_cli.training.soundstream_losses",
    "SemanticTransformer": "audiogen_cli.models.stages",
    "SemanticTransformerTrainer": "audiogen_cli.training.audiolm_trainers",
    "SoundStream": "audiogen_cli.training.soundstream_losses",
    "SoundStreamTrainer": "audiogen_cli.training.soundstream",
    "Speaker": "audiogen_cli.pipelines.speak",
    "VallE": "audiogen_cli.models.valle",
    "VallEConfig": "audiogen_cli.models.valle",
    "continue_audio": "audiogen_cli.pipelines.generate",
    "decode_blocks": "audiogen_cli.models.streaming",
    "encode_blocks": "audiogen_cli.models.streaming",
    "finish": "audiogen_cli.models.decoding",
    "generate": "audiogen_cli.pipelines.generate",
    "load": "audiogen_cli.hub.catalog",
    "read": "audiogen_cli.data.audio",
    "write": "audiogen_cli.data.audio",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'audiogen_cli' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
