"""The evaluation's arithmetic with a tagger that hears whatever the test says."""

import re
from types import SimpleNamespace

import pytest
import torch

from audiogen_cli.config import to_dict
from audiogen_cli.data import audio, manifest
from audiogen_cli.data.manifest import Clip
from audiogen_cli.errors import InputError
from audiogen_cli.hub import catalog
from audiogen_cli.hub.catalog import SHELVES
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.decoding import Sampling, finish
from audiogen_cli.pipelines import evaluate
from audiogen_cli.pipelines.evaluate import Prompt, Recording, Trial
from audiogen_cli.pipelines.generate import Progress


def prompt(text, *classes):
    return Prompt(text, classes, re.compile(text))


HEADER = "prompt,classes,caption"
PROMPTS = [prompt("dog", "Dog", "Bark"), prompt("rain", "Rain"), prompt("puppy", "Bark"), prompt("clock", "Tick")]


class Oracle:
    """A tagger whose classes are Dog, Bark, Rain, Tick, and whose scores of a waveform are its first four samples."""

    labels = ("Dog", "Bark", "Rain", "Tick", *(f"other {i}" for i in range(9)))

    def indices(self, names):
        return torch.tensor([self.labels.index(name) for name in names])

    def scores(self, waveform):
        others = torch.full((9,), 0.5)
        return torch.cat([waveform[:4], others])


def trial(index, kind, *hits):
    return Trial(index, kind, torch.tensor(hits, dtype=torch.bool))


def test_the_control_never_pairs_prompts_that_share_a_class():
    pairs = evaluate.strangers(PROMPTS)
    assert not pairs.diagonal().any()
    assert torch.equal(pairs, pairs.T)
    assert not pairs[0, 2]
    assert pairs[0, 1] and pairs[0, 3] and pairs[1, 2]


def test_shares_count_hits_on_the_prompts_own_classes_and_the_control_on_the_strangers():
    trials = [
        trial(0, "generated", 1, 0, 1, 0),
        trial(0, "generated", 1, 1, 1, 0),
        trial(1, "generated", 1, 0, 1, 1),
        trial(0, "placed", 0, 0, 0, 0),
        trial(0, "placed", 1, 0, 0, 0),
        trial(0, "trained", 1, 0, 0, 0),
    ]
    dog, rain, puppy, _ = evaluate.table(PROMPTS, trials, evaluate.strangers(PROMPTS))
    assert dog.generated == 1.0
    assert dog.control == 1 / 4, "rain once in two sounds, clock never; puppy does not count"
    assert (rain.generated, rain.control) == (0.0, 1.0)
    assert (dog.placed, dog.clips) == (0.5, 2)
    assert (dog.all_placed, dog.all_clips) == (pytest.approx(2 / 3), 3)
    assert (puppy.generated, puppy.placed, puppy.control) == (None, None, None)


def test_the_mean_counts_every_prompt_the_same_and_leaves_out_what_was_not_heard():
    trials = [trial(0, "generated", 1, 0, 0, 0), *[trial(1, "generated", 0, 0, 0, 0)] * 9]
    mean = evaluate.mean_row(evaluate.table(PROMPTS, trials, evaluate.strangers(PROMPTS)))
    assert mean.generated == 0.5
    assert mean.placed is None


def test_a_listener_hears_each_prompts_classes():
    listener = evaluate.Listener(Oracle(), PROMPTS)
    assert listener.hits(torch.tensor([0.1, 0.9, 0.1, 0.8])).tolist() == [True, False, True, True]


def test_placed_recordings_have_the_length_and_level_asked_for_and_repeat_to_the_bit(tmp_path):
    waveform = torch.randn(4_000, generator=torch.Generator().manual_seed(0)) * 0.01
    recording = Recording(tmp_path / "a.wav", "a dog barking", held_out=True)
    placed = evaluate.placed(waveform, recording, seconds=2.0)
    assert len(placed) == 32_000
    assert 20 * torch.tensor(evaluate.active_rms(placed.numpy(), 16_000)).log10() == pytest.approx(-26.0, abs=0.1)
    assert torch.equal(placed, evaluate.placed(waveform, recording, seconds=2.0))


def test_the_validation_split_of_a_prepared_folder_is_held_out(tmp_path):
    clips = [Clip("a.wav", "a dog", 1.0, "one"), Clip("b.wav", "rain", 1.0, "two", split="valid")]
    manifest.write(tmp_path / manifest.NAME, clips)
    recordings = evaluate.read_recordings(tmp_path)
    assert [(r.path.name, r.caption, r.held_out) for r in recordings] == [
        ("a.wav", "a dog", False),
        ("b.wav", "rain", True),
    ]


def test_silence_and_clipping_are_found():
    silence, clipped, sane = torch.zeros(16_000), torch.ones(16_000), torch.full((16_000,), 0.1)
    levels = evaluate.measure_levels([silence, clipped, sane, sane])
    assert (levels.silent, levels.clipped) == (0.25, 0.25)
    assert levels.level_db[1] == pytest.approx(-20.0)


@pytest.mark.parametrize("text", ["words\na dog\n", f"{HEADER}\na dog,Dog,(\n", f"{HEADER}\na\n"])
def test_a_file_that_holds_no_prompts_is_refused(tmp_path, text):
    (tmp_path / "prompts.csv").write_text(text)
    with pytest.raises(InputError, match="prompt, classes and caption"):
        evaluate.read_prompts(tmp_path / "prompts.csv")
    with pytest.raises(InputError, match="prompts"):
        evaluate.read_prompts(tmp_path / "missing.csv")


def test_the_committed_prompts_are_many_distinct_and_each_has_strangers():
    path = next(shelf for shelf in SHELVES if (shelf / "build").is_dir()) / "build" / "eval_prompts.csv"
    prompts = evaluate.read_prompts(path)
    assert len({prompt.text for prompt in prompts}) == len(prompts) >= 30
    assert evaluate.strangers(prompts).any(dim=1).all()
    assert all(prompt.caption.search(prompt.text) for prompt in prompts)


class NoCodec(Codec):
    """Rounds samples to 256 values: one code for each."""

    sample_rate, channels, hop_length, num_codebooks, codebook_size = 16_000, 1, 1, 1, 256

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def encode(self, waveform, num_codebooks=None):
        return (waveform.clamp(-1, 1) * 127 + 128).round().long()

    def decode(self, codes):
        return (codes - 128) / 127


@pytest.fixture
def model(monkeypatch):
    """Answers "dog" with what the oracle takes for Dog, and everything else with Tick."""

    def generate(model, prompts, seconds, seeds, *args, **kwargs):
        yield Progress(1, 1, len(seeds))
        answers = {"dog": [1.0, 0.0, 0.0, 0.0]}
        patterns = [torch.tensor(answers.get(text, [0.0, 0.0, 0.0, 1.0])) for text in prompts]
        return [0.5 * pattern.repeat(round(4_000 * seconds))[None] for pattern in patterns]

    monkeypatch.setattr(evaluate, "generate", generate)
    lm = SimpleNamespace(config=SimpleNamespace(num_codebooks=1))
    return SimpleNamespace(name="tiny", hash="0", sample_rate=16_000, codec=NoCodec(), lm=lm, sampling=Sampling())


def test_the_whole_evaluation_is_deterministic_and_becomes_tables(model, tmp_path, monkeypatch):
    monkeypatch.setattr(Oracle, "scores", lambda self, waveform: _scores(waveform))
    monkeypatch.setattr(Oracle, "hash", "1", raising=False)
    noise = 0.1 * torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    audio.write(tmp_path / "rain.wav", noise, 16_000)
    recordings = [Recording(tmp_path / "rain.wav", "rain falling", held_out=True)]

    def run():
        return finish(evaluate.evaluate(model, Oracle(), PROMPTS, recordings, num_seeds=2, seconds=1.0))

    report = run()
    assert [row.generated for row in report.rows] == [1.0, 0.0, 0.0, 1.0]
    assert [row.clips for row in report.rows] == [0, 1, 0, 0]
    assert report.codec.si_snr_db > 10
    assert report.codec.used == pytest.approx([63 / 256], abs=0.3)
    assert report.generated_levels.silent == 0
    assert to_dict(report) == to_dict(run())
    text = evaluate.markdown(report)
    assert "| dog | 1.00 | 0.000 | - | - | - | 0 | - | 0 |" in text
    assert "| mean of 4 prompts | 0.50 |" in text


def test_a_real_model_at_another_rate_is_evaluated_too(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(Oracle, "hash", "1", raising=False)
    audio.write(tmp_path / "dog.wav", 0.1 * torch.randn(1, 4_410), 44_100)
    recordings = [Recording(tmp_path / "dog.wav", "a dog", held_out=True)]
    model = catalog.load(tiny_model)
    report = finish(evaluate.evaluate(model, Oracle(), PROMPTS[:2], recordings, num_seeds=1, seconds=0.2))
    assert report.generated_levels.sounds == 2
    assert len(report.codec.used) == model.lm.config.num_codebooks
    assert report.rows[0].coded is not None


def test_prompts_must_be_there_and_their_classes_known(model):
    with pytest.raises(InputError, match="no prompts"):
        finish(evaluate.evaluate(model, Oracle(), []))


def _scores(waveform):
    """Which of four interleaved phases holds the energy."""
    energy = waveform[: len(waveform) // 4 * 4].reshape(-1, 4).square().sum(dim=0)
    return torch.cat([energy / energy.sum(), torch.full((9,), 0.6)])
