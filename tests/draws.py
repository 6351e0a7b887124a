"""What tests of random corruption draw from, and how they compare what was found with what was to be expected."""

from __future__ import annotations

import math

import numpy as np

from transformers_framework.processing.random import keys


def streams(n, seed=1, purpose="test"):
    return keys(seed, 0, np.arange(n), purpose)


def drawing(n, seed=1, epoch=0, rows=None):
    return lambda purpose: keys(seed, epoch, np.arange(n) if rows is None else rows, purpose)


def bound(df):
    """A chi-squared value that is exceeded once in some 30,000 times."""
    return df + 4 * math.sqrt(2 * df) + 8


def chi_squared(found, expected):
    return float(((found - expected) ** 2 / expected).sum())


def rows_of(ragged):
    return [part.tolist() for part in np.split(ragged.values, np.cumsum(ragged.lengths)[:-1])]
