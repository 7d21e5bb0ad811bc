"""Processes that make sounds side by side, each with the model, and one core to itself.

Cores that share one sound wait for each other; cores with sounds of their own do not. What is made is the same but for
rounding, for sums are not taken in the same order on one core and on two.
"""

from __future__ import annotations

import functools
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from audiogen_cli.errors import AudiolmError
from audiogen_cli.hub import catalog
from audiogen_cli.hub.catalog import Dtype, Entry
from audiogen_cli.hub.model import Model
from audiogen_cli.models.decoding import Sampling, finish

T = TypeVar("T")

_CHUNK = 16  # sounds that a process makes at a time


class Crew:
    """A context manager: the processes end with it. They are on the CPU, and start when there is something to do."""

    def __init__(self, entry: Entry, jobs: int, dtype: Dtype = "auto") -> None:
        """jobs: how many, at least one."""
        self.jobs, self._whose = jobs, (entry, dtype)
        quiet = (signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends them at once and without a word
        self._pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), signal.signal, quiet)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def sounds(
        self,
        texts: Sequence[str | None],
        seeds: Sequence[int],
        seconds: float,
        sampling: Sampling,
        candidates: int | None,
    ) -> Iterator[list[Tensor]]:
        """What pipelines.generate makes of them, mono [N] at 16 kHz, some at a time and in order."""
        entry, dtype = self._whose
        orders: list[Future[list[np.ndarray[Any, Any]]]] = []
        for start in range(0, len(texts), _CHUNK):
            own, drawn = list(texts[start : start + _CHUNK]), list(seeds[start : start + _CHUNK])
            orders.append(self._pool.submit(_sounds, entry, dtype, own, drawn, seconds, sampling, candidates))
        for order in orders:
            yield [torch.from_numpy(sound) for sound in _done(order)]

    def coded(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """waveform [N] at 16 kHz -> after the model's codec [N], and the frames; waits for them."""
        made, frames = _done(self._pool.submit(_coded, *self._whose, waveform.numpy()))
        return torch.from_numpy(made), torch.from_numpy(frames)


def _done(order: Future[T]) -> T:
    try:
        return order.result()
    except BrokenProcessPool as error:
        raise AudiolmError("a process that made sounds was ended; if memory is short, use fewer --jobs.") from error


@functools.lru_cache(maxsize=1)
def _model(entry: Entry, dtype: Dtype) -> Model:
    """Of this process."""
    torch.set_num_threads(1)
    return catalog.load(entry, "cpu", dtype)


def _sounds(
    entry: Entry,
    dtype: Dtype,
    texts: list[str | None],
    seeds: list[int],
    seconds: float,
    sampling: Sampling,
    candidates: int | None,
) -> list[np.ndarray[Any, Any]]:
    """Arrays, which go from process to process by value."""
    from audiogen_cli.pipelines.generate import generate
    from audiogen_cli.pipelines.listening import mono

    model = _model(entry, dtype)
    made = finish(generate(model, texts, seconds, seeds, sampling, candidates=candidates))
    return [mono(sound, model.sample_rate).numpy() for sound in made]


def _coded(entry: Entry, dtype: Dtype, waveform: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    from audiogen_cli.pipelines.listening import round_trip

    model = _model(entry, dtype)
    made, frames = round_trip(model.codec, torch.from_numpy(waveform), model.frames, model.sound)
    return made.numpy(), frames.numpy()
