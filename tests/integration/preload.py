"""What the server that forks runs imports once: forks then have seconds less to do."""

import importlib
import importlib.util
import os

import datasets  # noqa: F401
import pytorch_lightning  # noqa: F401
import torch.utils.tensorboard  # noqa: F401
from transformers.conversion_mapping import get_checkpoint_conversion_mapping
from transformers.models.bert import modeling_bert  # noqa: F401

import transformers_framework.callbacks.checkpoints
import transformers_framework.callbacks.export
import transformers_framework.callbacks.predictions
import transformers_framework.data.datamodule
import transformers_framework.models.auto
import transformers_framework.pipelines.pipeline
import transformers_framework.strategies.fsdp  # noqa: F401

get_checkpoint_conversion_mapping("bert")  # compiles a thousand regular expressions
if importlib.util.find_spec("deepspeed") is not None:
    os.environ["DS_ACCELERATOR"] = "cpu"
    importlib.import_module("deepspeed.runtime.zero.muon.muon_optimizer")  # imports torch's compiler
