"""Settings of a sweep: all combinations of values, or a random sample; and names for their runs."""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

DIGITS = 3  # significant digits of sampled numbers
LONGEST_SUFFIX = 80


@dataclass(frozen=True)
class Choices:
    """The values of a flag in a sweep.

    Args:
        values: Each value as the words that are typed for it.
    """

    values: tuple[tuple[str | None, ...], ...]

    def sample(self, generator: random.Random) -> tuple[str | None, ...]:
        """Return one of the values."""
        return generator.choice(self.values)


@dataclass(frozen=True)
class Interval:
    """A range of numbers from which a random sweep samples.

    Args:
        low: Smallest number.
        high: Largest number.
        log: Whether the logarithm is uniformly distributed.
        whole: Whether only whole numbers are sampled.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def sample(self, generator: random.Random) -> tuple[str | None, ...]:
        """Return a number with three significant digits, or a whole number."""
        if self.whole and not self.log:
            return (str(generator.randint(int(self.low), int(self.high))),)
        if self.log:
            # whole numbers have equal shares of the range around them
            shift = 0.5 if self.whole else 0.0
            found = math.exp(generator.uniform(math.log(self.low - shift), math.log(self.high + shift)))
        else:
            found = generator.uniform(self.low, self.high)
        if self.whole:
            return (str(min(int(self.high), max(int(self.low), round(found)))),)
        rounded = float(f"{found:.{DIGITS}g}")
        return (repr(min(self.high, max(self.low, rounded))),)


Setting = dict[str, "tuple[str | None, ...]"]


def every_setting(flags: Mapping[str, Choices]) -> list[Setting]:
    """Return all combinations of the values of flags, the last flag varies fastest.

    Examples:
        >>> every_setting({"a": Choices((("1",), ("2",))), "b": Choices((("x",),))})
        [{'a': ('1',), 'b': ('x',)}, {'a': ('2',), 'b': ('x',)}]
    """
    return [
        dict(zip(flags, values, strict=True))
        for values in itertools.product(*(choices.values for choices in flags.values()))
    ]


def sampled_settings(flags: Mapping[str, Choices | Interval], num_runs: int, seed: int) -> list[Setting]:
    """Return different random settings; the first of more settings are the same.

    (Bergstra and Bengio 2012, "Random Search for Hyper-Parameter Optimization".)

    Args:
        flags: Values or range of each flag.
        num_runs: Number of settings; fewer are returned if there are not as many.
        seed: Seed of the sample.
    """
    generators = {name: random.Random(f"{seed} {name}") for name in flags}
    found: dict[tuple[tuple[str | None, ...], ...], Setting] = {}
    for _ in range(100 * num_runs):
        setting = {name: values.sample(generators[name]) for name, values in flags.items()}
        found.setdefault(tuple(setting.values()), setting)
        if len(found) == num_runs:
            break
    return list(found.values())


def suffixes(settings: Sequence[Setting]) -> list[str]:
    """Return short readable names of settings, which depend on nothing but the flags and their values.

    Flags of several words are shortened to their first letters, if that is clear.

    Examples:
        >>> suffixes([{"learning_rate": ("1e-4",), "k": ("5",)}, {"learning_rate": ("1e-4",), "k": ("6",)}])
        ['lr1e-4-k5', 'lr1e-4-k6']
        >>> suffixes([{"pre_trained_model": ("models/bert-tiny",), "max_sequence_length": ("128", "16")}])
        ['ptm_bert-tiny-msl128+16']
    """
    shorts = {name: "".join(word[0] for word in name.split("_")) if "_" in name else name for name in settings[0]}
    if len(set(shorts.values())) < len(shorts):
        shorts = {name: name for name in shorts}
    names = ["-".join(_part(shorts[name], words) for name, words in setting.items()) for setting in settings]
    return [
        name if len(name) <= LONGEST_SUFFIX and names.count(name) == 1 else f"{name[:LONGEST_SUFFIX]}-{_hash(setting)}"
        for name, setting in zip(names, settings, strict=True)
    ]


def _part(short: str, words: tuple[str | None, ...]) -> str:
    texts = ["none" if word is None else PurePosixPath(word).name for word in words or (None,)]
    value = "+".join(re.sub(r"[^\w.+-]+", "_", text).strip("_") for text in texts)
    return f"{short}{'_' if value[:1].isalpha() else ''}{value}"


def _hash(setting: Setting) -> str:
    return hashlib.blake2b(repr(sorted(setting.items())).encode(), digest_size=3).hexdigest()
