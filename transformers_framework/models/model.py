"""What every model of a run declares, whatever networks it is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


class Model(nn.Module, ABC):
    """One or more networks of transformers that are trained together.

    Optimizers, strategies and callbacks ask for what every module has: parameters, buffers, ``state_dict``. How a model
    is called is a matter between its class and the pipeline of its family:
    :class:`~transformers_framework.models.multi_head.MultiHeadModel` by ``Pipeline.forward_heads``, any other by a
    family that overrides that method.
    """

    @property
    @abstractmethod
    def backbones(self) -> Sequence[PreTrainedModel]:
        """Every network without its heads, those first that get the inputs of a batch first."""

    @property
    @abstractmethod
    def config(self) -> PreTrainedConfig:
        """Config of the backbone that training is for."""

    @property
    @abstractmethod
    def newly_initialized(self) -> Mapping[str, str]:
        """Class names of the parts with weights that the checkpoint lacks, by the name of the head or of the network.

        Empty where all weights are newly initialized, because there is no checkpoint.
        """

    @abstractmethod
    def export(
        self,
        folder: str | Path,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        state_dict: Mapping[str, Tensor] | None = None,
        learned: Mapping[str, Mapping[str, object]] | None = None,
        outputs: Mapping[str, int] | None = None,
    ) -> dict[str, Path]:
        """Write checkpoints that transformers' Auto classes load.

        Args:
            folder: Where to; made when absent.
            tokenizer: Written beside every checkpoint.
            state_dict: Weights to write instead of the model's own, with the keys of ``state_dict()``: those that a
                sharded strategy has gathered.
            learned: By the name of a head, further settings of its config that were found in training.
            outputs: By the name of a head of two classes, the number of its outputs: 1 is their difference.

        Returns:
            The folder of each head, or of each network, by name.
        """
