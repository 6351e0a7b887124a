"""Settings of the machine, made before a run creates its first tensor or forks a worker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from transformers_framework.distributed.processes import end_with_parent

PARALLELISM = "TOKENIZERS_PARALLELISM"  # threads of tokenizers, for which forked processes could wait forever


class TokenizerThreads:
    """Whether tokenizers use threads, unless the user has said so."""

    chosen: ClassVar[str | None] = None  # by the last run of this process

    @classmethod
    def choose(cls, num_workers: int | None) -> None:
        """Allow them where there are no workers."""
        if os.environ.get(PARALLELISM, cls.chosen) == cls.chosen:
            cls.chosen = "true" if num_workers == 0 else "false"
            os.environ[PARALLELISM] = cls.chosen


def prepare_machine(options: Mapping[str, Any]) -> str:
    """Set what must be set before torch makes its first tensor or a worker is forked; return the kind of device.

    Args:
        options: All flags of the run.
    """
    from transformers_framework.runtime.accelerators import accelerator_kind
    from transformers_framework.runtime.allocator import keep_freed_memory
    from transformers_framework.runtime.log import set_up_logging
    from transformers_framework.runtime.machine_limits import allow_open_files

    if os.environ.get("LOCAL_RANK", "0") != "0":
        end_with_parent()
    set_up_logging()
    allow_open_files()
    TokenizerThreads.choose(options.get("num_workers"))
    device = accelerator_kind(options.get("accelerator") or "auto")
    if device == "cpu":
        keep_freed_memory()
    return device
