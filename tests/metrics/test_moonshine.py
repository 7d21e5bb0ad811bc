"""What surrounds the recogniser, without its files; and the real ones where they are installed."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from audiogen_cli.errors import ModelError
from audiogen_cli.metrics import moonshine
from audiogen_cli.metrics.moonshine import Moonshine
from audiogen_cli.metrics.words import word_errors

LAYERS, HEADS, WIDTH, WORDS = 2, 2, 3, (3, 4, 5)


class Encoder:
    def run(self, _: None, given: dict[str, Any]) -> list[np.ndarray]:
        assert given["attention_mask"].shape == given["input_values"].shape
        self.level = float(np.sqrt(np.square(given["input_values"]).mean()))
        return [np.zeros((1, 7, 4), np.float32)]


class Decoder:
    """Says WORDS and ends, or goes on for ever; remembers as the merged graph does: encoder keys at the first step."""

    def __init__(self, endless: bool = False) -> None:
        self.endless, self.calls = endless, 0

    def run(self, _: None, given: dict[str, Any]) -> list[np.ndarray]:
        step, self.calls = self.calls, self.calls + 1
        assert bool(given["use_cache_branch"][0]) == (step > 0)
        for layer in range(LAYERS):
            assert given[f"past_key_values.{layer}.decoder.key"].shape[2] == step
            assert given[f"past_key_values.{layer}.encoder.key"].shape[2] == (7 if step else 0)
        token = WORDS[step % len(WORDS)] if self.endless or step < len(WORDS) else 2
        logits = np.zeros((1, 1, 8), np.float32)
        logits[0, 0, token] = 1
        found = [logits]
        for _layer in range(LAYERS):
            own = np.zeros((1, HEADS, step + 1, WIDTH), np.float32)
            heard = np.zeros((1, HEADS, 0 if step else 7, WIDTH), np.float32)
            found += [own, own, heard, heard]
        return found


def hearing(decoder: Decoder) -> Moonshine:
    kinds = [f"{layer}.{kind}" for layer in range(LAYERS) for kind in ("decoder", "encoder")]
    names = [f"{kind}.{part}" for kind in kinds for part in ("key", "value")]
    listener = object.__new__(Moonshine)
    listener._encoder, listener._decoder = Encoder(), decoder
    listener._past = {f"past_key_values.{name}": (HEADS, WIDTH) for name in names}
    listener._present = ["logits", *(f"present.{name}" for name in names)]
    listener._pieces = [b"<unk>", b"<s>", b"</s>", "▁rain".encode(), "▁f".encode(), b"alls", b"", b""]
    return listener


def noise(seconds: float, level: float = 0.1) -> torch.Tensor:
    return level * torch.randn(round(seconds * 16_000), generator=torch.Generator().manual_seed(0))


def test_tokens_become_words_and_every_sound_comes_at_one_level() -> None:
    for level in (0.5, 0.004):
        listener = hearing(Decoder())
        assert listener.hears(noise(1.0, level)) == "rain falls"
        assert listener._encoder.level == pytest.approx(10 ** (-26 / 20), rel=0.05)


def test_nothing_is_heard_in_silence_nor_in_what_is_too_short() -> None:
    for sound in (torch.zeros(16_000), noise(1.0, 1e-4), noise(0.05), torch.zeros(0)):
        listener = hearing(Decoder())
        assert listener.hears(sound) == "" and listener._decoder.calls == 0


def test_a_loop_ends_when_no_speech_could_hold_more() -> None:
    listener = hearing(Decoder(endless=True))
    assert len(listener.hears(noise(2.0)).split()) <= 13
    assert listener._decoder.calls == 13


def test_the_list_of_tokens_has_lengths_of_one_byte_or_two(tmp_path: Path) -> None:
    long = b"x" * 300
    data = b"\x05<unk>\x03<s>\x04</s>\x00" + bytes([128 + 300 % 128, 300 // 128]) + long
    (tmp_path / "tokenizer.bin").write_bytes(data)
    assert moonshine._pieces(tmp_path / "tokenizer.bin") == [b"<unk>", b"<s>", b"</s>", b"", long]
    for broken in (data[:-1], b"", b"\x80"):
        (tmp_path / "tokenizer.bin").write_bytes(broken)
        with pytest.raises(ModelError, match="pip install"):
            moonshine._pieces(tmp_path / "tokenizer.bin")


def test_what_is_not_there_or_not_the_recogniser_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"encoder_model\.ort.*pip install"):
        Moonshine(tmp_path)
    for name in moonshine._FILES:
        (tmp_path / name).write_bytes(b"\x05<unk>\x03<s>\x04</s>")
    with pytest.raises(ModelError, match="pip install"):
        Moonshine(tmp_path)
    monkeypatch.setattr(moonshine, "_PACKAGE", "no-such-package-for-audiolm")
    with pytest.raises(ModelError, match=r"moonshine-voice==0\.1\.0.*--recogniser"):
        moonshine.find()


def test_the_installed_files_are_found_without_importing_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "encoder_model.ort").write_bytes(b"x")
    file = SimpleNamespace(name="encoder_model.ort", locate=lambda: tmp_path / "encoder_model.ort")
    monkeypatch.setattr(moonshine.importlib.metadata, "files", lambda _: [file])
    assert moonshine.find() == tmp_path


@pytest.fixture(scope="module")
def real() -> Moonshine:
    if importlib.util.find_spec("onnxruntime") is None:
        pytest.skip("no onnxruntime")
    try:
        return Moonshine(os.environ.get("AUDIOLM_RECOGNISER"))
    except ModelError as error:
        pytest.skip(str(error))


def test_the_real_one_writes_down_a_sentence_and_hears_nothing_in_silence(real: Moonshine) -> None:
    from audiogen_cli.data import audio

    recording = Path(__file__).parents[3] / "shared" / "data" / "speech" / "004ac4b1cfda.opus"
    if not recording.is_file():
        pytest.skip("no transcribed speech")
    waveform = audio.read(recording, 16_000, 1).waveform[0]
    assert word_errors("to these he gave castor oil", real.hears(waveform)).count == 0
    assert real.hears(waveform) == real.hears(waveform)
    assert real.hears(torch.zeros(16_000)) == ""
