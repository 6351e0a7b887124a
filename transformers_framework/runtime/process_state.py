"""Restore the state of the process after a run from Python, for programs and notebooks."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import warnings
from collections.abc import Iterator

LOGGERS = ("transformers_framework", "pytorch_lightning", "pytorch_lightning.profilers")


@contextlib.contextmanager
def process_state_restored() -> Iterator[None]:
    """Restore environment variables, loggers, warning filters, random number generators and settings of torch.

    Environment variables of a run with several ranks stay, because they tell each process its rank. So do the limit
    of open files and the settings of :func:`~transformers_framework.runtime.allocator.keep_freed_memory`.
    """
    with _generators_restored(), warnings.catch_warnings(), _loggers_restored(), _torch_restored():
        environment = dict(os.environ)
        try:
            yield
        finally:
            if not _is_distributed():
                for name in os.environ.keys() - environment.keys():
                    del os.environ[name]
                os.environ.update(environment)


def _is_distributed() -> bool:
    import torch

    return torch.distributed.is_available() and torch.distributed.is_initialized()


@contextlib.contextmanager
def _generators_restored() -> Iterator[None]:
    python = random.getstate()  # the import of Lightning uses it
    from pytorch_lightning.utilities.seed import isolate_rng

    raised: BaseException | None = None
    with isolate_rng():
        try:
            yield
        except BaseException as error:  # isolate_rng restores nothing after an error
            raised = error
    random.setstate(python)
    if raised is not None:
        raise raised


@contextlib.contextmanager
def _loggers_restored() -> Iterator[None]:
    from transformers.utils import logging as transformers_logging

    before = [(found, found.level, found.propagate, found.handlers[:]) for found in map(logging.getLogger, LOGGERS)]
    shows_progress = transformers_logging.is_progress_bar_enabled()
    try:
        yield
    finally:
        for found, level, propagate, handlers in before:
            found.setLevel(level)
            found.propagate, found.handlers[:] = propagate, handlers
        if shows_progress:
            transformers_logging.enable_progress_bar()


@contextlib.contextmanager
def _torch_restored() -> Iterator[None]:
    import torch

    precision, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    kernels = cudnn.benchmark, cudnn.deterministic
    anomalies = torch.is_anomaly_enabled()
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
        cudnn.benchmark, cudnn.deterministic = kernels
        torch.autograd.set_detect_anomaly(anomalies)
