"""The parts of a loaded model, what they do together, and refusing those that do not fit."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from audiogen_cli.errors import ModelError
from audiogen_cli.hub import catalog, checkpoint
from audiogen_cli.models.flow import Flow


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


def edit(path: Path, change: Callable[[dict], None]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@torch.inference_mode()
def test_frames_are_codes_of_a_language_model_and_latents_of_a_flow(tiny_model: Path, flow_model: Path) -> None:
    waveform = 0.1 * torch.randn(1, 1, 1_600)
    drawing, flowing = catalog.load(tiny_model), catalog.load(flow_model)
    codes, latents = drawing.frames(waveform), flowing.frames(waveform)
    assert codes.shape == (1, 3, 10) and codes.dtype == torch.int64
    assert latents.shape == (1, 8, 10) and latents.is_floating_point()
    assert torch.equal(drawing.sound(codes), drawing.codec.decode(codes))
    assert torch.equal(flowing.sound(latents), flowing.codec.sound_of(latents))
    assert torch.equal(drawing.sound(drawing.codec.latents_of(codes)), drawing.sound(codes))


def test_a_judge_of_another_text_encoder_is_refused(judged_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(judged_model, tmp_path / "other")
    edit(folder / "judge" / "config.json", lambda header: header["config"].update(text_fingerprint="0123456789ab"))
    model = catalog.load(folder)
    with pytest.raises(ModelError, match="the judge reads texts by encoder 0123456789ab"):
        _ = model.judge


def test_a_scorer_of_another_text_encoder_is_refused(scored_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(scored_model, tmp_path / "other")
    edit(folder / "clap" / "config.json", lambda header: header["config"].update(text_fingerprint="0123456789ab"))
    model = catalog.load(folder)
    with pytest.raises(ModelError, match="reads texts by encoder 0123456789ab"):
        _ = model.clap


def test_a_language_model_of_another_codec_is_refused(copy: Path) -> None:
    edit(copy / "lm" / "config.json", lambda header: header["config"].update(codec_fingerprint="0123456789ab"))
    with pytest.raises(ModelError, match="speaks the codes of codec 0123456789ab"):
        catalog.load(copy)


def test_a_text_encoder_of_another_width_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audiogen_cli.conditioners.text import T5Conditioner

    load = T5Conditioner.load

    def wider(*args: object) -> T5Conditioner:
        text = load(*args)
        text.dim = 24
        return text

    monkeypatch.setattr(T5Conditioner, "load", wider)
    with pytest.raises(ModelError, match="wants text vectors of width 16"):
        catalog.load(copy)


def test_a_flow_stands_in_the_place_of_a_language_model(flow_model: Path, tiny_model: Path, tmp_path: Path) -> None:
    model = catalog.load(flow_model)
    assert (model.name, model.window_frames, model.sampling.steps) == ("flowing", 50, 3)
    assert not model.maker.training and catalog.find(flow_model).flows and not catalog.find(tiny_model).flows
    with pytest.raises(ModelError, match="no language model but a flow"):
        _ = model.lm
    other = tmp_path / "other"
    shutil.copytree(flow_model, other)
    edit(other / "flow" / "config.json", lambda header: header["config"].update(codec_fingerprint="0123456789ab"))
    assert catalog.find(other).hash != model.hash
    with pytest.raises(ModelError, match="the flow speaks the latents of codec 0123456789ab"):
        catalog.load(other)
    shutil.rmtree(other / "text")
    with pytest.raises(ModelError, match="no folder text"):
        catalog.find(other)


def test_a_flow_beside_a_language_model_paints(painted_model: Path, tiny_model: Path, tmp_path: Path) -> None:
    model, entry = catalog.load(painted_model), catalog.find(painted_model)
    assert model.painter is not None and not model.painter.training and model.lm is model.maker
    assert catalog.load(tiny_model).painter is None and model.hash != catalog.find(tiny_model).hash
    assert entry.draws and entry.flows
    other = tmp_path / "other"
    shutil.copytree(painted_model, other)
    edit(other / "flow" / "config.json", lambda header: header["config"].update(codec_fingerprint="0123456789ab"))
    with pytest.raises(ModelError, match="the flow speaks the latents of codec 0123456789ab"):
        catalog.load(other)


def test_a_flow_of_mels_beside_a_codec_without_is_refused(flow_model: Path, tmp_path: Path) -> None:
    shutil.copytree(flow_model, other := tmp_path / "other")
    flow: Any = checkpoint.load(other / "flow")
    shutil.rmtree(other / "flow")
    checkpoint.save(other / "flow", Flow(dataclasses.replace(flow.config, space="mel")))
    with pytest.raises(ModelError, match="makes no sound of mel spectrograms"):
        catalog.load(other)
