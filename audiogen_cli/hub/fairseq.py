"""vq-wav2vec as fairseq saved it (1910.05453): converted without fairseq, and without running what is in the file.

    vq-wav2vec.pt           "gumbel"            {"args": its options, "model": tensors, ..}
    vq-wav2vec_kmeans.pt    "kmeans"

Of the network only what makes the codes is kept; the part that predicts the future was for training.
"""

from __future__ import annotations

import argparse
import ast
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from audiogen_cli.config import from_dict
from audiogen_cli.errors import CheckpointError, InputError
from audiogen_cli.hub import checkpoint
from audiogen_cli.hub.tables import Pickled, Table, fill, unpickle
from audiogen_cli.models.semantic import HubertWithKmeans, SemanticTokenizer
from audiogen_cli.models.vq_wav2vec import VQWav2Vec, VQWav2VecConfig
from audiogen_cli.ops.skeleton import skeleton

TABLE: Table = (
    (r"^feature_aggregator\..*", None),
    (r"^project_features\..*", None),
    (r"^wav2vec_predictions\..*", None),
    (r"^vector_quantizer\.vars$", None),
    (r"^feature_extractor\.conv_layers\.(\d+)\.0\.", r"convolutions.\1."),
    (r"^feature_extractor\.conv_layers\.(\d+)\.2\.", r"norms.\1."),
    (r"^vector_quantizer\.embedding$", "codebook"),
    (r"^vector_quantizer\.projection\.0\.", "projection."),
    (r"^vector_quantizer\.projection\.1\.", "projection_norm."),
    (r"^vector_quantizer\.weight_proj\.(\d+)\.0\.", r"hidden.\1."),
    (r"^vector_quantizer\.weight_proj\.(\d+\.)?", "logits."),
)


def FairseqVQWav2Vec(checkpoint_path: str | os.PathLike[str]) -> VQWav2Vec:  # noqa: N802
    """The tokenizer of fairseq's file, or of a checkpoint folder. Raises CheckpointError."""
    path = Path(checkpoint_path)
    if path.is_dir():
        found: Any = checkpoint.load(path, expect=("vq-wav2vec",))
        return found
    with torch.serialization.safe_globals([argparse.Namespace]):
        options = unpickle(path).get("args")
        if not isinstance(options, argparse.Namespace):
            raise CheckpointError(f"{path} does not say how it was made; give vq-wav2vec.pt or vq-wav2vec_kmeans.pt.")
        config = _configured(vars(options), path)
        return fill(skeleton(lambda: VQWav2Vec(config)), Pickled(path, "model"), TABLE, torch.float32)


def tokenizer(encoder: str, centroids: Path | None) -> SemanticTokenizer:
    """A speech model (a folder, or a name on the Hub) with its centroids, or a vq-wav2vec, which needs none.

    Raises ModelError, CheckpointError, and InputError for a model that needs centroids.
    """
    if centroids is not None:
        return HubertWithKmeans(encoder, centroids)
    try:
        return FairseqVQWav2Vec(encoder)
    except CheckpointError as error:
        raise InputError(
            f"{encoder} is no vq-wav2vec, and any other speech model needs its centroids; give --kmeans FILE, from "
            "`audiolm train kmeans`."
        ) from error


def _configured(options: Mapping[str, Any], path: Path) -> VQWav2VecConfig:
    names = {
        "quantizer": "vq_type",
        "num_groups": "vq_groups",
        "num_codes": "vq_vars",
        "shared": "combine_groups",
        "activation": "activation",
        "residual": "skip_connections_feat",
        "residual_scale": "residual_scale",
        "log_compression": "log_compression",
    }
    found = {mine: options[theirs] for mine, theirs in names.items() if theirs in options}
    if found.get("quantizer") == "gumbel":
        found["quantizer_layers"] = options.get("vq_depth", 1)
    try:
        found["convolutions"] = ast.literal_eval(options["conv_feature_layers"])
    except (KeyError, ValueError, SyntaxError) as error:
        raise CheckpointError(f"{path} does not say what its convolutions are; it is no vq-wav2vec.") from error
    return from_dict(VQWav2VecConfig, found, where=path.name)
