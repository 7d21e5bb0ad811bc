import json
from pathlib import Path

import pytest
import torch

from audiogen_cli.data import audio
from audiogen_cli.errors import CheckpointError, InputError, ModelError
from audiogen_cli.models.semantic import HubertWithKmeans, KMeans, KMeansConfig, SemanticTokenizer, SpeechEncoder, fit

transformers = pytest.importorskip("transformers")

SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
CONVOLUTIONS = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
W2V_BERT = SMALL | {"output_hidden_size": 16, "num_adapter_layers": 1}


def whisper() -> torch.nn.Module:
    config = transformers.WhisperConfig(
        vocab_size=20, d_model=16, encoder_layers=3, encoder_attention_heads=2, encoder_ffn_dim=16, decoder_layers=1,
        decoder_attention_heads=2, decoder_ffn_dim=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1,
    )  # fmt: skip
    return transformers.WhisperModel(config)


MODELS = {
    "hubert": lambda: transformers.HubertModel(transformers.HubertConfig(**SMALL, **CONVOLUTIONS)),
    "hubert-large": lambda: transformers.HubertModel(
        transformers.HubertConfig(**SMALL, **CONVOLUTIONS, feat_extract_norm="layer", do_stable_layer_norm=True)
    ),
    "wav2vec2": lambda: transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**SMALL, **CONVOLUTIONS)),
    "wavlm": lambda: transformers.WavLMModel(transformers.WavLMConfig(**SMALL, **CONVOLUTIONS)),
    "w2v-bert": lambda: transformers.Wav2Vec2BertModel(transformers.Wav2Vec2BertConfig(**W2V_BERT)),
    "whisper": whisper,
}


@pytest.fixture
def hubert(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    MODELS["hubert"]().save_pretrained(tmp_path / "hubert")
    return tmp_path / "hubert"


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    (tmp_path / "sounds").mkdir()
    for index in range(3):
        noise = torch.randn(1, 8_000, generator=torch.Generator().manual_seed(index)) * 0.1
        audio.write(tmp_path / f"sounds/{index}.wav", noise, 16_000)
    return tmp_path / "sounds"


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("samples", [400, 6_400, 6_401, 9_999])
def test_every_family_gives_a_frame_for_every_started_hop(name: str, samples: int) -> None:
    torch.manual_seed(0)
    encoder = SpeechEncoder(MODELS[name](), 2, 16_000)
    features = encoder(torch.randn(samples))
    assert features.shape == (-(-samples // 320), 16)
    assert features.isfinite().all()


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_gives_the_features_of_the_model_it_was_saved_from(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = SpeechEncoder(MODELS[name](), 2, 16_000)
    encoder.save(tmp_path / "encoder")
    wave = torch.randn(4_000)
    torch.testing.assert_close(SpeechEncoder.load(tmp_path / "encoder", 2)(wave), encoder(wave))


def test_layer_9_is_the_ninth_hidden_state_of_the_plain_waveform() -> None:
    """Base models are not given a normalised waveform, and no attention mask (reference 2.19)."""
    model, wave = MODELS["hubert"](), torch.randn(3_200) * 5 + 1
    padded = torch.nn.functional.pad(wave, (0, 80))  # 9 hops and the receptive field of 400: as many frames as hops
    expected = model.eval()(padded[None], output_hidden_states=True).hidden_states
    for layer in range(4):
        torch.testing.assert_close(SpeechEncoder(model, layer, 16_000)(wave), expected[layer][0])


def test_models_with_layer_norms_in_front_hear_a_normalised_waveform() -> None:
    encoder, wave = SpeechEncoder(MODELS["hubert-large"](), 1, 16_000), torch.randn(3_280)
    torch.testing.assert_close(encoder(wave * 7 + 3), encoder(wave), atol=1e-4, rtol=1e-4)


def test_whisper_agrees_with_transformers_over_thirty_seconds() -> None:
    model, wave = whisper().eval(), torch.randn(480_000) * 0.1
    heard = transformers.WhisperFeatureExtractor()(wave.numpy(), sampling_rate=16_000, return_tensors="pt")
    expected = model.encoder(heard["input_features"]).last_hidden_state[0]
    torch.testing.assert_close(SpeechEncoder(model, 3, 16_000)(wave), expected, atol=1e-4, rtol=1e-4)


def test_mert_loads_without_running_its_code(hubert: Path) -> None:
    wave = torch.randn(4_000)
    expected = SpeechEncoder.load(hubert, 2)(wave)
    settings = json.loads((hubert / "config.json").read_text()) | {"model_type": "mert_model"}
    settings["auto_map"] = {"AutoModel": "modeling_MERT.MERTModel"}
    (hubert / "config.json").write_text(json.dumps(settings))
    (hubert / "preprocessor_config.json").write_text('{"sampling_rate": 24000}')
    encoder = SpeechEncoder.load(hubert, 2)
    assert encoder.sample_rate == 24_000
    torch.testing.assert_close(encoder(wave), expected)


def test_fitted_centroids_are_kept_with_what_they_belong_to(hubert: Path, recordings: Path, tmp_path: Path) -> None:
    fitted = HubertWithKmeans.fit(hubert, folder=recordings, codebook_size=5, output_layer=2)
    fitted.kmeans.save(tmp_path / "km.safetensors")
    loaded = HubertWithKmeans(checkpoint_path=hubert, kmeans_path=tmp_path / "km.safetensors")
    config = loaded.kmeans.config
    assert (config.encoder, config.layer, config.sample_rate, config.frame_rate) == (str(hubert), 2, 16_000, 50.0)
    wave = torch.randn(2, 4_000) * 0.1
    ids = loaded(wave)
    assert ids.shape == (2, 13) and ids.dtype == torch.int64 and loaded.codebook_size == 5
    assert torch.equal(ids, fitted(wave))
    assert loaded.fingerprint() == fitted.fingerprint()
    with pytest.raises(ModelError, match="layer 2, not 1"):
        HubertWithKmeans(hubert, tmp_path / "km.safetensors", output_layer=1)


def test_standardised_features_have_no_mean_and_unit_variance(hubert: Path, recordings: Path) -> None:
    encoder = SpeechEncoder.load(hubert, 1)
    paths = sorted(recordings.glob("*.wav"))
    heard = list[tuple[int, int]]()
    centroids = fit(encoder, paths, 4, listener=lambda done, total: heard.append((done, total)))
    features = torch.cat([encoder(audio.read(path).waveform[0]) for path in paths])
    scaled = (features - centroids.mean) / centroids.std
    assert scaled.mean(0).abs().max() < 1e-4 and (scaled.std(0) - 1).abs().max() < 1e-4
    assert heard == [(1, 3), (2, 3), (3, 3)]


def test_a_row_is_tokenised_as_it_is_alone_and_at_any_rate(hubert: Path) -> None:
    torch.manual_seed(0)
    tokenizer = SemanticTokenizer(SpeechEncoder.load(hubert, 1), random_kmeans(config=KMeansConfig(layer=1)))
    waves = torch.randn(3, 4_000)
    together = tokenizer(waves)
    for row, wave in zip(together, waves, strict=True):
        assert torch.equal(tokenizer(wave)[0], row)
    resampled = tokenizer(audio.resample(waves, 16_000, 8_000), input_sample_hz=8_000)
    assert resampled.shape == together.shape


def test_published_centroids_are_read_without_their_pickle_being_run(hubert: Path, tmp_path: Path) -> None:
    theirs = pytest.importorskip("joblib")
    centres = torch.randn(7, 16)
    estimator = Published()
    estimator.cluster_centers_ = centres.numpy()
    theirs.dump(estimator, tmp_path / "km500.bin")
    loaded = KMeans.load(tmp_path / "km500.bin")
    torch.testing.assert_close(loaded.centroids, centres)
    assert loaded.config == KMeansConfig() and not loaded.mean.any() and (loaded.std == 1).all()


class Published:
    pass


def random_kmeans(config: KMeansConfig) -> KMeans:
    return KMeans(torch.randn(6, 16), torch.zeros(16), torch.ones(16), config)


def test_what_cannot_be_used_is_named(hubert: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="layers 0 to 3"):
        SpeechEncoder.load(hubert, 9)
    (tmp_path / "hubert_base_ls960.pt").write_bytes(b"x")
    with pytest.raises(ModelError, match="needs no fairseq"):
        SpeechEncoder.load(tmp_path / "hubert_base_ls960.pt", 9)
    with pytest.raises(ModelError, match="cannot load the speech model"):
        SpeechEncoder.load(tmp_path, 9)
    with pytest.raises(CheckpointError, match="audiolm train kmeans"):
        KMeans.load(tmp_path / "none.safetensors")
    with pytest.raises(ModelError, match="fitted on"):
        SemanticTokenizer(SpeechEncoder.load(hubert, 1), random_kmeans(KMeansConfig(frame_rate=75.0)))


def test_importing_changes_no_logging_and_no_warnings() -> None:
    """The seed silences the root logger and replaces warnings.warn when it is imported (reference 1.14, 22)."""
    import subprocess
    import sys

    code = (
        "import logging, warnings; level, warn = logging.root.level, warnings.warn\n"
        "import audiogen_cli.models.semantic, audiogen_cli.models.vq_wav2vec\n"
        "assert (logging.root.level, warnings.warn) == (level, warn)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
