"""What the server that forks runs imports once."""

import datasets  # noqa: F401
import pytorch_lightning  # noqa: F401
import transformers  # noqa: F401

import transformers_framework.callbacks.checkpoints
import transformers_framework.callbacks.predictions
import transformers_framework.data.datamodule
import transformers_framework.models.auto
import transformers_framework.pipelines.pipeline  # noqa: F401
