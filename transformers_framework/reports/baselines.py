"""Metrics beside the values that predictions without a model have: perplexity beside that of token frequencies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from transformers_framework.constants import UNIGRAM_PERPLEXITY

PERPLEXITY: Final = "perplexity"
TITLES = {"valid": "Validation", "test": "Test"}


def perplexities(metrics: Mapping[str, float | None], stage: str) -> tuple[float, float] | None:
    """Return the perplexity of a stage and that of token frequencies alone; None if they were not logged.

    Args:
        metrics: Values by log name; None for those that are no numbers, as results have them.
        stage: The stage.
    """
    known = {name: value for name, value in metrics.items() if value is not None and name.startswith(f"{stage}/")}
    own = next((name for name in known if name.endswith(f"/{UNIGRAM_PERPLEXITY}")), None)
    name = "" if own is None else f"{own.rpartition('/')[0]}/{PERPLEXITY}"
    return (known[name], known[str(own)]) if name in known else None


def perplexity_line(metrics: Mapping[str, float | None], stage: str) -> str:
    """Return the perplexity of a stage beside that of token frequencies; empty if they were not logged.

    Args:
        metrics: Values by log name.
        stage: The stage.

    Examples:
        >>> perplexity_line({"valid/masked_lm/perplexity": 52.31, "valid/masked_lm/unigram_perplexity": 803}, "valid")
        'perplexity 52.3 (by token frequencies alone: 803.0)'
        >>> perplexity_line({"valid/denoising/perplexity": 52.31}, "valid")
        ''
    """
    found = perplexities(metrics, stage)
    return "" if found is None else f"perplexity {found[0]:,.1f} (by token frequencies alone: {found[1]:,.1f})"


def baseline_warnings(metrics: Mapping[str, float | None], stage: str) -> list[str]:
    """Return a warning if a model predicts tokens no better than their frequencies do.

    Args:
        metrics: Values by log name.
        stage: The stage.

    Examples:
        >>> baseline_warnings({"test/a/perplexity": 803.0, "test/a/unigram_perplexity": 803.1}, "test")
        []
        >>> baseline_warnings(dict.fromkeys(("test/a/perplexity", "test/a/unigram_perplexity"), float("nan")), "test")
        []
    """
    found = perplexities(metrics, stage)
    if found is None or not found[0] >= found[1]:  # nan without labels
        return []
    return [
        f"{TITLES[stage]}: perplexity {found[0]:,.1f} is not below that of token frequencies alone, {found[1]:,.1f}: "
        "the model does not use the context of a token yet. Train longer (--max_steps, --max_epochs), or try another "
        "--learning_rate."
    ]
