"""SoundStreamTrainer, with the arguments that programs for audiolm-pytorch give, on our loop.

    trainer = SoundStreamTrainer(soundstream, folder="recordings", batch_size=4, grad_accum_every=8,
                                 data_max_length_seconds=2, num_train_steps=1_000_000).cuda()
    trainer.train()             # results_folder/log.jsonl, samples/, checkpoints/, model/

The losses and discriminators are those that the SoundStream's own arguments ask for. A step sees grad_accum_every
batches one after the other, and generator and discriminator the same ones. Nothing is asked while it runs, nothing that
is not a training run of ours is deleted, and any number of trainers may live in one process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.utils.data
from accelerate import Accelerator
from torch import Tensor, nn

from audiogen_cli.config import from_dict, to_dict
from audiogen_cli.data import manifest
from audiogen_cli.data.recordings import Recordings
from audiogen_cli.errors import InputError, TrainingError
from audiogen_cli.hub import soundstream as hub
from audiogen_cli.models.soundstream import SoundStreamConfig
from audiogen_cli.training import data
from audiogen_cli.training.codec import CodecRecipe, CodecTask, CodecTrainingConfig, validation_pieces
from audiogen_cli.training.loop import LoopConfig, learning_rate_scale, new_accelerator, train
from audiogen_cli.training.schedule import Schedule, TorchSchedule
from audiogen_cli.training.soundstream_losses import (
    GRADIENT_PENALTY,
    SoundStream,
    discriminators,
    loss_config,
    stft_config,
    wave_config,
)

BETAS = (0.9, 0.99)
OURS = ("checkpoints", "samples", "model", "log.jsonl", "recipe.json", "wandb.txt")


class SoundStreamTrainer:
    """Raises InputError for arguments that do not go together, and ConfigError for values that make no recipe.

    folder: recordings, split by `valid_frac`; or dataset (and val_dataset): sequences of waveforms [N] or [C, N] at the
        SoundStream's rate; or train_dataloader and val_dataloader, read once, of batches of such.
    force_clear_prev_results: None refuses a results_folder that holds a run, False goes on with it, True clears it.
    stft_discriminator: [B, C, N] -> list[DiscriminatorOutput], in place of the complex STFT discriminator.
    apply_grad_penalty_every: 0 for none. wd: of matrices. ema_update_after_step: until then the average is a copy.
    scheduler, discr_scheduler: "cosine", "constant", "inverse_sqrt", or a class of torch.optim.lr_scheduler, made with
        its kwargs; discr_warmup_steps: None is warmup_steps.
    accelerator, or accelerate_kwargs to make one. It trains in one process, and crops are drawn without end, so that
        every batch is full: dataloader_drop_last, split_batches and init_process_group_timeout_seconds change nothing.
    """

    def __init__(
        self,
        soundstream: hub.SoundStream,
        *,
        num_train_steps: int,
        batch_size: int,
        data_max_length: int | None = None,
        data_max_length_seconds: float | None = None,
        folder: str | os.PathLike[str] | None = None,
        dataset: Iterable[Any] | None = None,
        val_dataset: Iterable[Any] | None = None,
        train_dataloader: Iterable[Any] | None = None,
        val_dataloader: Iterable[Any] | None = None,
        lr: float = 2e-4,
        grad_accum_every: int = 4,
        wd: float = 0.0,
        warmup_steps: int = 1000,
        scheduler: str | Callable[..., Any] | None = None,
        scheduler_kwargs: Mapping[str, Any] | None = None,
        discr_warmup_steps: int | None = None,
        discr_scheduler: str | Callable[..., Any] | None = None,
        discr_scheduler_kwargs: Mapping[str, Any] | None = None,
        max_grad_norm: float = 0.5,
        discr_max_grad_norm: float | None = None,
        save_results_every: int = 100,
        save_model_every: int = 1000,
        log_losses_every: int = 1,
        results_folder: str | os.PathLike[str] = "./results",
        valid_frac: float = 0.05,
        random_split_seed: int = 42,
        use_ema: bool = True,
        ema_beta: float = 0.995,
        ema_update_after_step: int = 500,
        ema_update_every: int = 10,
        apply_grad_penalty_every: int = 4,
        dl_num_workers: int = 0,
        accelerator: Accelerator | None = None,
        accelerate_kwargs: Mapping[str, Any] | None = None,
        init_process_group_timeout_seconds: int = 1800,
        dataloader_drop_last: bool = True,
        split_batches: bool = False,
        use_wandb_tracking: bool = False,
        force_clear_prev_results: bool | None = None,
        stft_discriminator: nn.Module | None = None,
    ) -> None:
        if (data_max_length is None) == (data_max_length_seconds is None):
            raise InputError("give one of data_max_length (in samples) and data_max_length_seconds.")
        seconds = data_max_length_seconds or (data_max_length or 0) / soundstream.sample_rate
        loop = {
            "steps": num_train_steps,
            "batch_size": batch_size * grad_accum_every,
            "accumulate": grad_accum_every,
            "learning_rate": lr,
            "warmup_steps": warmup_steps,
            "schedule": scheduler if isinstance(scheduler, str) else "constant",
            "clip_norm": max_grad_norm,
            "ema_decay": ema_beta if use_ema else 0.0,
            "ema_start": ema_update_after_step if use_ema else 0,
            "ema_every": ema_update_every if use_ema else 1,
            "evaluate_every": save_results_every,
            "save_every": save_model_every,
            "workers": dl_num_workers,
            "seed": random_split_seed,
        }
        self.results_folder = Path(results_folder)
        self.force_clear, self.log_every = force_clear_prev_results, log_losses_every
        self.wants_wandb = use_wandb_tracking
        self.loop = from_dict(LoopConfig, loop, where="SoundStreamTrainer")
        training = training_config(soundstream.config, seconds, apply_grad_penalty_every, discr_max_grad_norm)
        training = dataclasses.replace(training, discriminator_learning_rate=lr, weight_decay=wd)
        self.recipe = CodecRecipe(soundstream=soundstream.config, training=training, loop=self.loop)
        training_set = train_dataloader if dataset is None else dataset
        held_out = val_dataloader if val_dataset is None else val_dataset
        recordings = _recordings(soundstream, folder, training_set, held_out, valid_frac)
        pieces = validation_pieces(recordings[1], soundstream.sample_rate)
        source = {"data": str(folder or "a dataset")}
        critics = soundstream.discriminators if isinstance(soundstream, SoundStream) else None
        if stft_discriminator is not None:
            critics = discriminators(soundstream.config, stft_discriminator)
        self.task = CodecTask(self.recipe, recordings[0], pieces, source, soundstream, critics)
        discr_warmup = warmup_steps if discr_warmup_steps is None else discr_warmup_steps
        self.task.schedules = {
            "codec": self._schedule(scheduler, scheduler_kwargs, warmup_steps),
            "discriminator": self._schedule(discr_scheduler, discr_scheduler_kwargs, discr_warmup),
        }
        self.accelerator = _checked(accelerator) if accelerator else None
        self.accelerate_kwargs = dict(accelerate_kwargs or {})
        self._trackers: list[Callable[[Mapping[str, float]], Any]] = []

    @property
    def ema_soundstream(self) -> hub.SoundStream:
        """The averaged weights, which are what is saved."""
        averaged = self.task.average.module
        assert isinstance(averaged, hub.SoundStream)
        return averaged

    def train(self, log_fn: Callable[[Mapping[str, float]], Any] = lambda metrics: None) -> None:
        """Runs to num_train_steps. Raises OutputError for a folder in use, TrainingError for a loss that is not finite.

        log_fn: called with "step" and every metric, of training and of evaluation.
        """
        if self.wants_wandb and not self._trackers:
            raise TrainingError("use_wandb_tracking is on; call train() inside `with trainer.wandb_tracker(project):`.")
        if self.force_clear:
            clear_run(self.results_folder)
        resume = self.force_clear is False
        accelerator = self.accelerator or _checked(new_accelerator(self.loop.precision, **self.accelerate_kwargs))
        for report in train(self.task, self.loop, self.results_folder, to_dict(self.recipe), resume, accelerator):
            if report.kind == "evaluate" or (report.kind == "step" and report.step % self.log_every == 0):
                for log in (log_fn, *self._trackers):
                    log({"step": report.step, **report.metrics})

    def _schedule(
        self, scheduler: str | Callable[..., Any] | None, options: Mapping[str, Any] | None, warmup_steps: int
    ) -> Schedule:
        if callable(scheduler):
            return TorchSchedule(scheduler, options or {}, self.loop.learning_rate, warmup_steps)
        if options:
            raise InputError("scheduler_kwargs are for a class of torch.optim.lr_scheduler; give that as scheduler.")
        named = {**to_dict(self.loop), "schedule": scheduler or "constant", "warmup_steps": warmup_steps}
        return functools.partial(learning_rate_scale, from_dict(LoopConfig, named, where="SoundStreamTrainer"))

    def tokenize(self, audio: Tensor) -> Tensor:
        """By the averaged weights; see SoundStream.tokenize."""
        return self.ema_soundstream.tokenize(audio.to(next(self.ema_soundstream.parameters()).device))

    def set_model_as_ema_model_(self) -> None:
        """The averaged weights become those now trained."""
        self.task.average.module.load_state_dict(self.task.codec.state_dict())

    def cuda(self) -> SoundStreamTrainer:
        """Training runs on the accelerator that there is; this is for programs that say so."""
        return self

    def to(self, device: Any) -> SoundStreamTrainer:
        """As `cuda`."""
        return self

    @contextlib.contextmanager
    def wandb_tracker(
        self, project: str, run: str | None = None, hps: Mapping[str, Any] | None = None
    ) -> Iterator[None]:
        """Logs to Weights & Biases what is trained inside, with the recipe and `hps` as its configuration.

        A run that is gone on with is the same run there: `wandb.txt` in the results folder names it.
        """
        try:
            import wandb
        except ImportError as error:
            raise TrainingError("Weights & Biases is not installed; run `pip install wandb`.") from error
        named = self.results_folder / "wandb.txt"
        before = {"id": named.read_text().strip(), "resume": "allow"} if named.is_file() else {}
        configuration = {**to_dict(self.recipe), **dict(hps or {})}
        tracked: Any = wandb.init(project=project, name=run, config=configuration, **before)

        def log(line: Mapping[str, float]) -> None:
            named.write_text(f"{tracked.id}\n")
            tracked.log(line)

        self._trackers.append(log)
        try:
            yield
        finally:
            self._trackers.remove(log)
            tracked.finish()


def training_config(
    config: SoundStreamConfig, seconds: float, penalty_every: int = 4, discriminator_clip_norm: float | None = None
) -> CodecTrainingConfig:
    """What a SoundStream's own arguments say about its losses and discriminators. Raises ConfigError."""
    return CodecTrainingConfig(
        seconds=float(seconds),
        adversarial_start=0,
        betas=BETAS,
        ms_stft=False,
        wave_discriminator=wave_config(config),
        complex_discriminator=stft_config(config),
        discriminator_clip_norm=discriminator_clip_norm,
        r1_weight=GRADIENT_PENALTY if penalty_every else 0.0,
        r1_every=max(1, penalty_every),
        losses=loss_config(config),
    )


def _checked(accelerator: Accelerator) -> Accelerator:
    """Raises InputError for one that would change what a step computes."""
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise InputError(f"mixed precision {accelerator.mixed_precision} is not trained in; take bf16 or no.")
    if accelerator.gradient_accumulation_steps > 1:
        raise InputError("gradients are accumulated by grad_accum_every; leave gradient_accumulation_steps at 1.")
    return accelerator


def clear_run(folder: Path) -> None:
    """Removes what a training run of ours leaves in a folder, and nothing else."""
    for name in OURS:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _recordings(
    soundstream: hub.SoundStream,
    folder: str | os.PathLike[str] | None,
    training: Iterable[Any] | None,
    validation: Iterable[Any] | None,
    valid_frac: float,
) -> tuple[Recordings, Recordings]:
    """For training and for evaluation."""
    if (folder is None) == (training is None):
        raise InputError("give one of folder, dataset and train_dataloader.")
    if folder is not None:
        clips = data.find_clips(Path(folder), fraction=valid_frac, uncaptioned=True)
        if not manifest.select(clips, "valid"):  # one source alone: some of its recordings are set aside
            every = max(2, round(1 / valid_frac)) if valid_frac > 0 else len(clips) + 1
            clips = [dataclasses.replace(c, split="valid") if i % every == 1 else c for i, c in enumerate(clips)]
        sets = data.load(clips, soundstream.sample_rate, soundstream.channels)
        return sets.train.recordings, sets.valid.recordings
    known, held = (
        [_waveform(item, soundstream.channels) for batch in _each(given) for item in _items(batch)]
        for given in (training, validation)
    )
    if not held:
        count = max(1, round(valid_frac * len(known)))
        known, held = (known[:-count], known[-count:]) if len(known) > count else (known, known)
    return Recordings(known), Recordings(held)


def _each(given: Iterable[Any] | None) -> Iterable[Any]:
    """The items of a dataset, whose length is believed where it has no end of its own, or the batches of a loader."""
    if given is None:
        return ()
    items: Any = given
    counted = isinstance(given, torch.utils.data.Dataset) and hasattr(given, "__len__")
    return (items[index] for index in range(len(items))) if counted else items


def _items(batch: Any) -> Iterable[Tensor]:
    """The waveforms of a dataset's item or of a loader's batch [B, C, N]; what else an item holds is left out."""
    if isinstance(batch, (tuple, list)):
        return [waveform for part in batch for waveform in _items(part)]
    if not isinstance(batch, Tensor):
        return []
    return list(batch) if batch.ndim == 3 else [batch]


def _waveform(audio: Tensor, channels: int) -> Tensor:
    """[N] or [C, N] in [-1, 1] -> int16 [C, N]. Raises InputError."""
    audio = audio[None] if audio.ndim == 1 else audio
    if audio.ndim != 2 or audio.shape[0] != channels:
        raise InputError(f"a waveform of the dataset has the shape {list(audio.shape)}; give [{channels}, samples].")
    return (audio.detach().cpu().float().clamp(-1, 1) * 32_767).round().to(torch.int16)
