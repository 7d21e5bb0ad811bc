"""The trainers that users of audiolm-pytorch write, on our training loop.

    trainer = SemanticTransformerTrainer(transformer=semantic, wav2vec=wav2vec, folder="recordings", batch_size=4,
                                         data_max_length=320 * 32, num_train_steps=1000)
    trainer.train()

A data set is a folder of recordings (with captions where the stage reads text), or any torch Dataset whose items are a
waveform, or a waveform and a caption in any order. Nothing is asked and nothing is removed: a results folder that holds
a run is an error, unless `resume` goes on with it. Several trainers may live in one process.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from audiogen_cli.conditioners.base import Condition
from audiogen_cli.config import to_dict
from audiogen_cli.data.manifest import select
from audiogen_cli.errors import InputError
from audiogen_cli.hub.stages import text_encoder
from audiogen_cli.models.audiolm import Stage
from audiogen_cli.models.codec import Codec
from audiogen_cli.models.decoding import Sampling, finish
from audiogen_cli.models.semantic import SemanticTokenizer
from audiogen_cli.models.stage_decoding import Item, decode
from audiogen_cli.training.audiolm import StageTask, fitted
from audiogen_cli.training.loop import LoopConfig, train
from audiogen_cli.training.stage_data import FolderSounds, Sound, Tokenizers, find_recordings, first


class StageTrainer:
    """What the three trainers share. lr .. random_split_seed are those of audiolm-pytorch.

    data_max_length: samples of a crop at the higher of the tokenizers' rates; data_max_length_seconds: the same in
    seconds, of any number type; without either the stage's own window. sample_hz: the rate of a dataset's waveforms,
    the higher of the tokenizers' rates unless given. Raises InputError when the parts do not fit.
    """

    needs: tuple[str, ...] = ()

    def __init__(
        self,
        transformer: Stage,
        *,
        num_train_steps: int,
        batch_size: int,
        wav2vec: SemanticTokenizer | None = None,
        codec: Codec | None = None,
        folder: str | os.PathLike[str] | None = None,
        dataset: Any = None,
        valid_dataset: Any = None,
        sample_hz: int | None = None,
        data_max_length: int | None = None,
        data_max_length_seconds: float | None = None,
        lr: float = 3e-4,
        grad_accum_every: int = 1,
        wd: float = 0.0,
        max_grad_norm: float = 0.5,
        valid_frac: float = 0.05,
        random_split_seed: int = 42,
        save_results_every: int = 100,
        save_model_every: int = 1000,
        results_folder: str | os.PathLike[str] | None = None,
        precision: Literal["auto", "fp32", "bf16"] = "auto",
        resume: bool = False,
    ) -> None:
        missing = [name for name, part in (("wav2vec", wav2vec), ("codec", codec)) if name in self.needs and not part]
        if missing or (folder is None) == (dataset is None):
            raise InputError(f"give {' and '.join([*missing, 'either folder or dataset'])}.")
        parts = Tokenizers(wav2vec if "wav2vec" in self.needs else None, codec if "codec" in self.needs else None)
        if data_max_length is not None:
            data_max_length_seconds = data_max_length / parts.sample_rate
        transformer.config = fitted(transformer.config, parts, data_max_length_seconds)
        self.transformer, self.parts, self.resume = transformer, parts, resume
        self.results_folder = Path(results_folder or Path("results") / transformer.config.stage)
        self.text = None if transformer.config.conditioning == "none" else text_encoder(transformer.config.text)
        self.loop = LoopConfig(
            steps=num_train_steps,
            batch_size=batch_size * grad_accum_every,
            accumulate=grad_accum_every,
            learning_rate=lr,
            warmup_steps=0,
            schedule="constant",
            clip_norm=max_grad_norm,
            evaluate_every=save_results_every,
            save_every=save_model_every,
            workers=0,
            seed=random_split_seed,
            precision=precision,
        )
        training, held_out = self._data(folder, dataset, valid_dataset, sample_hz, valid_frac)
        few = first(held_out)
        self.task = StageTask(
            transformer, self.loop, training, len(training), few, parts.rates, self.text, weight_decay=wd
        )

    def train(self) -> None:
        """To the last step. Raises OutputError for a results folder in use, TrainingError for a loss not finite."""
        recipe = {"model": to_dict(self.transformer.config), "loop": to_dict(self.loop)}
        for _ in train(self.task, self.loop, self.results_folder, recipe, self.resume):
            pass
        self.task.accelerator.unwrap_model(self.task.prepared, keep_fp32_wrapper=False)  # computes in float32 again
        self.transformer.eval()

    def condition(self, text: Sequence[str] | None) -> Condition | None:
        if text is None or self.text is None:
            return None
        return self.text(text)

    def _data(
        self, folder: Any, dataset: Any, valid_dataset: Any, sample_hz: int | None, share: float
    ) -> tuple[FolderSounds | DatasetSounds, FolderSounds | DatasetSounds]:
        """Training and validation data; without any for validation the training data stands in."""
        if folder is not None:
            clips = find_recordings(Path(folder), fraction=share)
            held_out = select(clips, "valid") or clips
            return FolderSounds(select(clips, "train"), self.parts), FolderSounds(held_out, self.parts)
        training = DatasetSounds(dataset, self.parts, sample_hz)
        return training, DatasetSounds(valid_dataset or dataset, self.parts, sample_hz)


class SemanticTransformerTrainer(StageTrainer):
    needs = ("wav2vec",)

    def generate(
        self,
        *,
        text: Sequence[str] | None = None,
        prime_ids: Tensor | None = None,
        batch_size: int = 1,
        max_length: int = 2048,
        cond_scale: float = 3.0,
        filter_thres: float = 0.9,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> list[Tensor]:
        """Semantic ids [n] for each row, which may end before `max_length`; prime_ids [B, P] are gone on from."""
        rows = len(text) if text is not None else batch_size
        start = torch.empty(rows, 0, dtype=torch.int64) if prime_ids is None else prime_ids.expand(rows, -1)
        kept = max(1, int((1 - filter_thres) * self.transformer.config.target.codebook_size))
        items = [Item(start[row], max_length, seed + row) for row in range(rows)]
        how = Sampling(temperature, kept, guidance=cond_scale)
        return finish(decode(self.transformer.eval(), items, self.condition(text), how))


class CoarseTransformerTrainer(StageTrainer):
    needs = ("wav2vec", "codec")


class FineTransformerTrainer(StageTrainer):
    needs = ("codec",)


class DatasetSounds:
    """The items of a torch Dataset in ids, encoded each time, since a data set may vary its items."""

    def __init__(self, dataset: Any, tokenizers: Tokenizers, sample_hz: int | None = None) -> None:
        self.dataset, self.tokenizers = dataset, tokenizers
        self.sample_hz = sample_hz or tokenizers.sample_rate

    def __len__(self) -> int:
        return len(self.dataset)

    def __call__(self, index: int) -> Sound:
        """Of two waveforms the longer one has the higher rate: they are the same sound at the two tokenizers' rates."""
        item = self.dataset[index]
        fields = item if isinstance(item, (tuple, list)) else (item,)
        waveforms = sorted((f for f in fields if isinstance(f, Tensor)), key=lambda wave: wave.shape[-1])
        captions = [f for f in fields if isinstance(f, str)]
        if not 1 <= len(waveforms) <= 2 or len(captions) > 1:
            raise InputError("an item of the data set must hold one or two waveforms and at most one caption.")
        caption, waves = "".join(captions), [wave.reshape(-1, wave.shape[-1]).float() for wave in waveforms]
        semantic, codec = self.tokenizers.semantic, self.tokenizers.codec
        if len(waves) == 1 or semantic is None or codec is None:
            return self.tokenizers(waves[-1], self.sample_hz, caption)
        if semantic.sample_rate > codec.sample_rate:
            waves.reverse()
        return self.tokenizers(waves[0], semantic.sample_rate, caption, waves[1])
