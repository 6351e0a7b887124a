"""Messages of the program go to the standard error of the moment."""

from __future__ import annotations

import contextlib
import io
import logging

from transformers_framework.runtime.log import set_up_logging


def test_a_stream_that_was_replaced_is_not_kept():
    """As in a notebook, whose cells have streams of their own: a closed one would raise in each later message."""
    package = logging.getLogger("transformers_framework")
    before, propagates = list(package.handlers), package.propagate
    package.handlers.clear()
    try:
        for text in ("first", "second"):
            stream = io.StringIO()
            with contextlib.redirect_stderr(stream):
                set_up_logging()
                package.error(text)
            assert stream.getvalue().endswith(f"{text}\n")
            stream.close()
    finally:
        package.handlers[:], package.propagate = before, propagates


def test_what_users_cannot_act_on_is_not_shown(caplog):
    set_up_logging()
    of_deepspeed = logging.getLogger("DeepSpeed")
    of_deepspeed.warning(
        "Setting accelerator to CPU. If you have GPU or other accelerator, we were unable to detect it."
    )
    of_deepspeed.warning("overflow")
    assert caplog.messages == ["overflow"]
