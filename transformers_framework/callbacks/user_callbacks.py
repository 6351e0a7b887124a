"""Callbacks of Lightning that users add to a run."""

from __future__ import annotations

import pytorch_lightning as pl

from transformers_framework.import_paths import build_object

HOME = "pytorch_lightning.callbacks"


def user_callbacks(*, callbacks: tuple[str, ...] = ()) -> list[pl.Callback]:
    """Return the callbacks that were asked for.

    Args:
        callbacks: Callbacks of Lightning to add: names of its own, or import paths as my_package:MyCallback, which must
            be importable. A config file may give arguments, as {class_path: my_package:MyCallback, init_args: {k: 5}}.

    Raises:
        ConfigurationError: When one leads nowhere, cannot be made, or is no callback.
    """
    return [build_object(text, "callbacks", HOME, pl.Callback) for text in callbacks]
