"""How people would judge decoded speech, by models of hearing in packages of their own, which are not dependencies.

    STOI     short-time objective intelligibility, 0 to 1 (Taal et al. 2011)       pip install pystoi
    ViSQOL   predicted opinion score, 1 to 5 (2004.09584), its speech mode         pip install --no-deps visqol-python
    PESQ     predicted opinion score, 1 to 4.6 (ITU-T P.862.2, wide band)          pip install pesq

Each hears one channel at 16 kHz. ViSQOL's package asks for libsvm, which needs a compiler and is not used in this mode.
It would map similarity to scores by another model where it finds ai-edge-litert; ours is the one that is always there.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from audiogen_cli.data.audio import remix, resample

SAMPLE_RATE = 16_000

Score = Callable[[Tensor, Tensor, int], float]
_Judge = Callable[[np.ndarray, np.ndarray], float]


def available() -> dict[str, Score]:
    """The scores whose packages are installed. Each is called with reference [C, N], estimate [C, N] and their rate.

    NaN: this sound cannot be judged (silence, or too short).
    """
    judges: Mapping[str, tuple[str, _Judge]] = {
        "stoi": ("pystoi", _stoi),
        "pesq": ("pesq", _pesq),
        "visqol": ("visqol", _visqol),
    }
    return {
        name: functools.partial(_judged, judge)
        for name, (package, judge) in judges.items()
        if importlib.util.find_spec(package) is not None
    }


def _judged(judge: _Judge, reference: Tensor, estimate: Tensor, sample_rate: int) -> float:
    heard = [resample(remix(w.detach().cpu(), 1), sample_rate, SAMPLE_RATE)[0].numpy() for w in (reference, estimate)]
    if not heard[0].any():  # ViSQOL would find it excellent
        return math.nan
    try:
        return judge(heard[0].astype(np.float64), heard[1].astype(np.float64))
    except (RuntimeWarning, RuntimeError, ValueError, ArithmeticError, IndexError):
        return math.nan


def _stoi(reference: np.ndarray, estimate: np.ndarray) -> float:
    from pystoi import stoi

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)  # it would return 1e-5
        return float(stoi(reference, estimate, SAMPLE_RATE))


def _pesq(reference: np.ndarray, estimate: np.ndarray) -> float:
    from pesq import NoUtterancesError, pesq

    try:
        return float(pesq(SAMPLE_RATE, reference, estimate, "wb"))
    except NoUtterancesError:
        return math.nan


def _visqol(reference: np.ndarray, estimate: np.ndarray) -> float:
    return float(_visqol_api().measure_from_arrays(reference, estimate, SAMPLE_RATE).moslqo)


@functools.cache
def _visqol_api() -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="speech", use_lattice_model=False)
    return api
