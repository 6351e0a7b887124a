"""Every test runs offline and without touching the user's cache."""

import logging
import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of runs side by side would wait for each other


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.LogCaptureFixture]:
    """What the package said, which does not reach the root logger."""
    logger = logging.getLogger("transformers_framework")
    monkeypatch.setattr(logger, "propagate", False)  # as a run has it, be it the first of these tests or not
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)
