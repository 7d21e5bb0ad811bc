import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from audiogen_cli.data import audio
from audiogen_cli.errors import ConfigError, InputError, OutputError, TrainingError
from audiogen_cli.hub.soundstream import SoundStream
from audiogen_cli.models.soundstream_discriminators import ComplexSTFTDiscriminator, ComplexSTFTDiscriminatorConfig
from audiogen_cli.training.soundstream import SoundStreamTrainer, training_config

OPTIONS: dict[str, Any] = {
    "channels": 2,
    "strides": (8, 5),
    "channel_mults": (1, 2),
    "codebook_dim": 8,
    "codebook_size": 16,
    "rq_num_quantizers": 2,
    "use_local_attn": False,
    "discr_multi_scales": (0.25,),
    "multi_spectral_window_powers_of_two": (7,),
}
SMALL = {"channels": 2, "strides": [[4, 4]], "chan_mults": [1], "n_fft": 128, "win_length": 128}


def soundstream(**options: Any) -> SoundStream:
    torch.manual_seed(0)
    return SoundStream(**({"complex_stft_discr_kwargs": SMALL} | OPTIONS | options))


def sounds(count: int = 4) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [0.1 * torch.randn(20_000) for _ in range(count)]


def trainer(results: Path, model: SoundStream | None = None, **options: Any) -> SoundStreamTrainer:
    settings = {
        "num_train_steps": 2,
        "batch_size": 1,
        "grad_accum_every": 2,
        "data_max_length_seconds": 0.1,
        "dataset": sounds(),
        "warmup_steps": 1,
        "save_results_every": 2,
        "save_model_every": 2,
        "apply_grad_penalty_every": 2,
    }
    return SoundStreamTrainer(model or soundstream(), results_folder=results, **(settings | options))


def test_the_readmes_program_trains_and_leaves_a_codec_and_samples(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for index, sound in enumerate(sounds()):
        audio.write(tmp_path / f"data/{index}.wav", sound[None], 16_000)
    made = trainer(tmp_path / "results", folder=tmp_path / "data", dataset=None, data_max_length_seconds=0.1).cuda()
    logged: list[dict[str, float]] = []
    made.train(logged.append)
    assert [line["step"] for line in logged] == [1, 2, 2]
    assert {"mse", "spectral", "adversarial", "feature", "r1", "perplexity_1", "gradient_norm"} <= logged[0].keys()
    codec = SoundStream.init_and_load_from(tmp_path / "results/model")
    assert codec.tokenize(torch.randn(4_000)).shape == (1, 1, 100, 2)
    assert any((tmp_path / "results/samples/step-00000002").glob("*-decoded.wav"))


def test_a_run_is_neither_overwritten_nor_asked_about_and_goes_on_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/notes.txt").write_text("mine")
    trainer(tmp_path / "results").train()
    with pytest.raises(OutputError, match="already holds"):
        trainer(tmp_path / "results").train()
    trainer(tmp_path / "results", num_train_steps=3, force_clear_prev_results=False).train()
    lines = [json.loads(line) for line in (tmp_path / "results/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "step"] == [1, 2, 3]
    trainer(tmp_path / "results", num_train_steps=1, force_clear_prev_results=True).train()
    assert len((tmp_path / "results/log.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "results/notes.txt").read_text() == "mine"


def test_two_trainers_live_in_one_process_and_tokenize(tmp_path: Path) -> None:
    first, second = trainer(tmp_path / "a"), trainer(tmp_path / "b")
    sound = torch.randn(1, 400)
    assert torch.equal(first.tokenize(sound), second.tokenize(sound))
    first.set_model_as_ema_model_()


def test_the_average_holds_no_discriminator_and_the_model_gets_none(tmp_path: Path) -> None:
    made = trainer(tmp_path / "a")
    assert made.ema_soundstream.state_dict().keys() == soundstream().state_dict().keys()


def test_lengths_may_be_given_in_samples_or_in_seconds_that_are_no_whole_number(tmp_path: Path) -> None:
    assert trainer(tmp_path, data_max_length_seconds=0.123).task.batch(0).shape == (2, 1, 1_968)
    in_samples = trainer(tmp_path, data_max_length_seconds=None, data_max_length=400)
    assert in_samples.task.batch(0).shape == (2, 1, 400)
    with pytest.raises(InputError, match="data_max_length"):
        trainer(tmp_path, data_max_length=400)


def test_loaders_and_labelled_items_are_understood(tmp_path: Path) -> None:
    loader = [torch.stack(sounds(2))[:, None] for _ in range(2)]
    labelled = [("a caption", sound) for sound in sounds()]
    assert len(trainer(tmp_path, dataset=None, train_dataloader=loader, val_dataloader=loader).task.train) == 4
    assert len(trainer(tmp_path, dataset=labelled).task.train) == 3
    with pytest.raises(InputError, match="one of folder"):
        trainer(tmp_path, folder=tmp_path)
    with pytest.raises(InputError, match="shape"):
        trainer(tmp_path, dataset=[torch.zeros(2, 100)])


class Endless(torch.utils.data.Dataset[Any]):
    """As the README's example has it: any index is answered, and only the length says where to stop."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> tuple[str, torch.Tensor]:
        return "a caption", torch.full((400,), index / 10)


def test_a_dataset_ends_where_its_length_says(tmp_path: Path) -> None:
    made = trainer(tmp_path, dataset=Endless(), val_dataset=Endless())
    assert len(made.task.train) == len(made.task.validation) == 5


def test_the_models_own_arguments_make_the_losses_and_discriminators() -> None:
    config = soundstream(input_channels=2, recon_loss_weight=0.0, stft_normalized=True).config
    made = training_config(config, 1)
    assert made.losses.mse == 0 and made.losses.feature == 100 and made.losses.spectral_windows == (128,)
    assert made.losses.spectral_normalized and made.wave_discriminator is not None
    assert made.wave_discriminator.channels == 2 and made.complex_discriminator is not None
    assert (made.complex_discriminator.input_channels, made.complex_discriminator.n_fft) == (2, 128)
    with pytest.raises(ConfigError, match="did you mean 'n_fft'"):
        training_config(soundstream(complex_stft_discr_kwargs={"n_ffts": 3}).config, 1)


def test_an_own_discriminator_takes_the_place_of_the_stfts(tmp_path: Path) -> None:
    own = ComplexSTFTDiscriminator(ComplexSTFTDiscriminatorConfig(channels=2, strides=((8, 8),), chan_mults=(1,)))
    task = trainer(tmp_path, stft_discriminator=own).task
    kinds = [type(member).__name__ for member in task.discriminator.members]  # type: ignore[union-attr]
    assert kinds == ["MultiScaleWaveDiscriminator", "ComplexSTFTDiscriminator"]
    assert task.modules["discriminator"] is task.discriminator


def test_weights_and_biases_gets_the_recipe_and_every_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {"lines": []}

    def init(**options: Any) -> SimpleNamespace:
        seen.update(options)
        return SimpleNamespace(log=seen["lines"].append, finish=lambda: seen.update(finished=True))

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    made = trainer(tmp_path / "a", use_wandb_tracking=True)
    with pytest.raises(TrainingError, match="wandb_tracker"):
        made.train()
    with made.wandb_tracker("soundstream", run="baseline", hps={"note": 1}):
        made.train()
    assert (seen["project"], seen["name"], seen["config"]["note"]) == ("soundstream", "baseline", 1)
    assert len(seen["lines"]) == 3 and seen["finished"] and seen["config"]["loop"]["steps"] == 2
