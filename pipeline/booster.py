"""The native LightGBM booster: text in, log-odds out, bit for bit the same wherever a row is scored.

LightGBM is imported inside the functions: the portal and the command line start without it. OpenMP reads its
settings when that library loads, so entry points call ``config.prepare_process`` first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lightgbm import Booster

Floats = NDArray[np.float64]


def canonical_text(booster: Booster) -> str:
    """The model as text, without what depends on the machine rather than on the model.

    LightGBM writes the number of threads among the parameters; the trees do not depend on it, the digest must not.
    """
    return re.sub(r"^\[num_threads: -?\d+\]$", "[num_threads: 0]", booster.model_to_string(), flags=re.MULTILINE)


def parse(text: str) -> Booster:
    """The booster of a model text. A malformed text may abort the process: check its digest first."""
    from lightgbm import Booster

    return Booster(model_str=text)


def features(booster: Booster) -> tuple[str, ...]:
    """The features the model reads, in the order of its matrix columns."""
    return tuple(booster.feature_name())


def log_odds(booster: Booster, matrix: Floats, threads: int = 0) -> Floats:
    """Raw score of each row: log(PD / (1 − PD)). NaN is a missing value. A row's bits do not depend on the others."""
    if not len(matrix):
        return np.empty(0)
    return np.asarray(booster.predict(matrix, raw_score=True, num_threads=threads), dtype=np.float64)


def probability(raw: Floats) -> Floats:
    """PD = 1 / (1 + exp(−log-odds)), computed in extended precision and rounded once to double.

    The double-precision ``exp`` differs in its last bit between processors; with the extended one the rounded
    result is the same on each, so a PD can be compared by bits on another machine.
    """
    return (1 / (1 + np.exp(-raw.astype(np.longdouble)))).astype(np.float64)


def contributions(booster: Booster, matrix: Floats, threads: int = 0) -> Floats:
    """Shapley contributions to the log-odds, rows × (features + 1); the last column is the base.

    Each row sums to its log-odds (Lundberg et al., Nature Machine Intelligence 2, 2020). A few hundred rows a
    second: for applications and single accounts, never for the book.
    """
    width = booster.num_feature() + 1
    if not len(matrix):
        return np.empty((0, width))
    result = booster.predict(matrix, pred_contrib=True, num_threads=threads)
    return np.asarray(result, dtype=np.float64).reshape(len(matrix), width)
