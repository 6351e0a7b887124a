"""Callbacks of Lightning that users add to a run."""

from __future__ import annotations

import pytorch_lightning as pl

from transformers_framework.import_paths import build_object

HOME = "pytorch_lightning.callbacks"


def user_callbacks(*, callbacks: tuple[str, ...] = ()) -> list[pl.Callback]:
    """Create the callbacks of ``--callbacks``.

    Args:
        callbacks: Callbacks of Lightning to add: names of its own ones, or import paths such as my_package:MyCallback.
            A config file may give arguments, such as {class_path: my_package:MyCallback, init_args: {k: 5}}.

    Raises:
        ConfigurationError: When one cannot be imported or created, or is not a callback.
    """
    return [build_object(text, "callbacks", HOME, pl.Callback) for text in callbacks]
