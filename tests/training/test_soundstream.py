import json
import sys
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch.optim.lr_scheduler import StepLR

from audiogen_cli.data import audio
from audiogen_cli.errors import ConfigError, InputError, OutputError, TrainingError
from audiogen_cli.models.soundstream_discriminators import ComplexSTFTDiscriminator, ComplexSTFTDiscriminatorConfig
from audiogen_cli.training import soundstream as training_soundstream
from audiogen_cli.training.soundstream import SoundStreamTrainer, training_config
from audiogen_cli.training.soundstream_losses import SoundStream

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
        return SimpleNamespace(id="7f3", log=seen["lines"].append, finish=lambda: seen.update(finished=True))

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    made = trainer(tmp_path / "a", use_wandb_tracking=True)
    with pytest.raises(TrainingError, match="wandb_tracker"):
        made.train()
    with made.wandb_tracker("soundstream", run="baseline", hps={"note": 1}):
        made.train()
    assert (seen["project"], seen["name"], seen["config"]["note"]) == ("soundstream", "baseline", 1)
    assert len(seen["lines"]) == 3 and seen["finished"] and seen["config"]["loop"]["steps"] == 2


SCALAR = {  # nothing is drawn and no codebook learns: what is left must be the same in parts
    "codebook_size": None,
    "use_finite_scalar_quantizer": True,
    "finite_scalar_quantizer_levels": (5, 3),
    "rq_num_quantizers": 1,
    "feature_loss_weight": 0.0,
}


def rates(made: SoundStreamTrainer, name: str) -> list[float]:
    """The learning rate of each step, as the optimizer had it."""
    seen: list[float] = []
    step = made.task.step

    def spied(batch: torch.Tensor, at: int) -> Any:
        metrics = step(batch, at)
        seen.append(round(made.task.optimizers[name].param_groups[0]["lr"], 9))
        return metrics

    made.task.step = spied  # type: ignore[method-assign]
    made.train()
    return seen


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    after = {}
    for parts in (1, 3):
        made = trainer(
            tmp_path / str(parts),
            soundstream(**SCALAR),
            num_train_steps=1,
            batch_size=6 // parts,
            grad_accum_every=parts,
            accelerate_kwargs={"mixed_precision": "no"},
        )
        heard: list[int] = []
        made.task.codec.encoder.register_forward_pre_hook(lambda _, given, heard=heard: heard.append(len(given[0])))
        logged: list[Any] = []
        made.train(logged.append)
        assert heard[:parts] == [6 // parts] * parts  # never more than a part at once
        gradients = {
            f"{name}.{i}": state["exp_avg"]
            for name, optimizer in made.task.optimizers.items()
            for i, state in optimizer.state_dict()["state"].items()
        }
        after[parts] = gradients | {"norm": torch.tensor(logged[0]["gradient_norm"])}
    for name, whole in after[1].items():
        torch.testing.assert_close(after[3][name], whole, atol=1e-6, rtol=1e-3, msg=name)


def test_each_optimizer_warms_up_and_decays_by_its_own_schedule(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "num_train_steps": 4,
        "save_results_every": 4,
        "lr": 0.004,
        "warmup_steps": 2,
        "scheduler": StepLR,
        "scheduler_kwargs": {"step_size": 3, "gamma": 0.5},
        "discr_warmup_steps": 4,
    }
    assert rates(trainer(tmp_path / "a", **options), "codec") == [0.002, 0.004, 0.004, 0.002]
    assert rates(trainer(tmp_path / "b", **options), "discriminator") == [0.001, 0.002, 0.003, 0.004]
    options |= {"discr_scheduler": StepLR, "discr_scheduler_kwargs": {"step_size": 1, "gamma": 0.5}}
    made = trainer(tmp_path / "c", **options | {"discr_warmup_steps": 0, "num_train_steps": 2})
    assert rates(made, "discriminator") == [0.004, 0.002]
    resumed = trainer(tmp_path / "c", **options | {"force_clear_prev_results": False, "discr_warmup_steps": 0})
    assert rates(resumed, "discriminator") == [0.001, 0.0005]


def test_a_scheduler_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="StepLR cannot be used"):
        trainer(tmp_path, scheduler=StepLR)
    with pytest.raises(InputError, match="scheduler_kwargs"):
        trainer(tmp_path, scheduler="cosine", scheduler_kwargs={"step_size": 1})
    with pytest.raises(ConfigError, match="schedule"):
        trainer(tmp_path, discr_scheduler="cosin")


def test_matrices_decay_and_nothing_else(tmp_path: Path) -> None:
    made = trainer(tmp_path, wd=0.1, num_train_steps=1)
    made.train()
    for name, module in (("codec", made.task.codec), ("discriminator", made.task.discriminator)):
        decays = [
            (group["weight_decay"], p.dim() > 1)
            for group in made.task.optimizers[name].param_groups
            for p in group["params"]
        ]
        assert set(decays) == {(0.1, True), (0.0, False)} and len(decays) == len(list(module.parameters()))
        assert made.task.optimizers[name].param_groups[0]["betas"] == (0.9, 0.99)


def test_the_average_copies_at_first_and_then_follows_now_and_then(tmp_path: Path) -> None:
    made = trainer(tmp_path, num_train_steps=6, ema_update_after_step=2, ema_update_every=3)
    trained, averaged = (next(m.parameters()) for m in (made.task.codec, made.ema_soundstream))
    differs, moved, last = [], [], averaged.clone()
    step = made.task.step

    def spied(batch: torch.Tensor, at: int) -> Any:
        nonlocal last
        metrics = step(batch, at)
        differs.append(not torch.equal(trained, averaged))
        moved.append(not torch.equal(averaged, last))
        last = averaged.clone()
        return metrics

    made.task.step = spied  # type: ignore[method-assign]
    made.train()
    assert differs == [False, False, True, True, True, True]
    assert moved == [True, True, True, False, False, True]


def test_the_callers_accelerator_is_used_and_what_it_may_not_change_is_refused(tmp_path: Path) -> None:
    own = Accelerator(cpu=True)
    made = trainer(tmp_path / "a", accelerator=own, num_train_steps=1)
    made.train()
    assert made.task.accelerator is own
    named = trainer(tmp_path / "b", accelerate_kwargs={"mixed_precision": "bf16"}, num_train_steps=1)
    named.train()
    assert named.task.accelerator.mixed_precision == "bf16"
    with pytest.raises(InputError, match="grad_accum_every"):
        trainer(tmp_path / "c", accelerate_kwargs={"gradient_accumulation_steps": 2}).train()


def test_batches_are_full_and_the_same_whatever_concerns_only_several_processes_or_a_last_batch(tmp_path: Path) -> None:
    plain = trainer(tmp_path, batch_size=8).task.batch(0)
    asked = trainer(
        tmp_path, batch_size=8, dataloader_drop_last=False, split_batches=True, init_process_group_timeout_seconds=9
    )
    assert plain.shape[0] == 16 and torch.equal(asked.task.batch(0), plain)


def test_the_discriminators_that_learn_are_those_of_the_soundstream(tmp_path: Path) -> None:
    model = soundstream()
    sound = sounds()[0][:1_600]
    before = float(model(sound, return_discr_loss=True).detach())
    made = trainer(tmp_path, model)
    assert made.task.discriminator is model.discriminators
    made.train()
    assert float(model(sound, return_discr_loss=True).detach()) != before


def test_a_run_is_reported_once_and_goes_on_as_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[19: trackers are made twice; a resumed run is another one to Weights & Biases]"""
    begun: list[dict[str, Any]] = []

    def init(**options: Any) -> SimpleNamespace:
        begun.append(options)
        return SimpleNamespace(id="7f3", log=lambda line: None, finish=lambda: None)

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    for steps in (2, 3):
        made = trainer(tmp_path / "a", num_train_steps=steps, use_wandb_tracking=True, force_clear_prev_results=False)
        with made.wandb_tracker("soundstream"):
            made.train()
        assert len(begun) == steps - 1
    assert begun[0].get("id") is None and begun[1]["id"] == "7f3" and begun[1]["resume"] == "allow"


def test_what_the_caller_gives_stays_the_callers_and_no_two_trainers_share_a_default(tmp_path: Path) -> None:
    """[19: accelerate_kwargs is one dict by default, and written to]"""
    given = MappingProxyType({"mixed_precision": "no"}), MappingProxyType({"step_size": 3})
    made = trainer(tmp_path, accelerate_kwargs=given[0], scheduler=StepLR, scheduler_kwargs=given[1])
    assert made.accelerate_kwargs == {"mixed_precision": "no"}
    first, second = trainer(tmp_path), trainer(tmp_path)
    assert first.accelerate_kwargs == {} and first.accelerate_kwargs is not second.accelerate_kwargs


def test_a_run_is_kept_with_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[19: hyper-parameters are dropped]"""
    kept: list[Any] = []
    monkeypatch.setattr(training_soundstream, "train", lambda task, loop, folder, recipe, *_: kept.append(recipe) or [])
    trainer(tmp_path, lr=0.003).train()
    assert kept[0]["loop"]["learning_rate"] == 0.003 and kept[0]["soundstream"]["channels"] == 2
