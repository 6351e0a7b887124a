"""Values of a config that no model can be built or trained with, found before anything is built."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from transformers_framework.exceptions import ConfigurationError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# name of a setting -> least and greatest value; the first pattern that matches counts
RANGES: dict[str, tuple[float, float]] = {
    r"type_vocab_size|.*_?layers": (0, math.inf),
    r"(.*_)?(size|heads|dim|groups|embeddings)|d_model|d_ff|d_kv": (1, math.inf),
    r".*(dropout|layerdrop)(_prob|_rate)?": (0, 1),
    r"initializer_range|init_std|.*_(eps|epsilon)": (0, math.inf),
}
ANY = (-math.inf, math.inf)
LOOKED_UP = ("pad_token_id", "decoder_start_token_id")  # tokens whose embedding every model reads


def check_values(config: PreTrainedConfig, source: str, *, trained: bool) -> None:
    """Raise when a config has values that no model can have, or describes quantized weights.

    Args:
        config: The config.
        source: The flag and value it comes from, for the message.
        trained: Whether its special tokens hold, and are not replaced by those of the tokenizer.

    Raises:
        ConfigurationError: Names every such setting, with what was found and what was expected.
    """
    if getattr(config, "quantization_config", None):
        raise ConfigurationError(f"{source}: its weights are quantized and cannot be trained. Give the original ones.")
    values = config.to_dict()
    problems = [problem for name, value in values.items() if (problem := _problem(name, value))]
    for name in LOOKED_UP if trained else ():
        token, size = values.get(name), values.get("vocab_size")
        if isinstance(token, int) and isinstance(size, int) and not 0 <= token < size:
            problems.append(f"{name} is {token}, expected a token of the vocabulary, 0 to {size - 1}")
    if not isinstance(values.get("architectures") or [], (list, tuple)):
        problems.append(f"architectures is {values['architectures']!r}, expected a list of classes")
    if problems:
        raise ConfigurationError(f"{source}: its config cannot be used: {'; '.join(problems)}.")


def _problem(name: str, value: Any) -> str | None:
    """Say what is wrong with one setting; nothing when it is right or not a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not math.isfinite(value):
        return f"{name} is {value}, expected a finite number"
    least, most = next(
        (bounds for pattern, bounds in RANGES.items() if re.fullmatch(pattern, name)), (-math.inf, math.inf)
    )
    if least <= value <= most:
        return None
    return f"{name} is {value}, expected at least {least:g}" + (f" and at most {most:g}" if most < math.inf else "")
