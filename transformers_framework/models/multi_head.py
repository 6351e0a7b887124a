"""Several of transformers' head models on one backbone that runs once.

Each head model keeps its own class, its own copy of the config and its own weights, and loses its backbone: in its
place stands a :class:`Relay`, which hands over the output of the backbone they share. So no architecture needs a joint
class, and :meth:`MultiHeadModel.export` gives every head its backbone back and writes plain checkpoints.
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.models import attention_masks  # noqa: F401  # registers them
from transformers_framework.models.document_lengths import ARGUMENTS
from transformers_framework.models.last_layer import LastLayer, in_other_rows, joined, reads_first_token
from transformers_framework.models.model import Model
from transformers_framework.models.output_layer import with_outputs
from transformers_framework.models.reads import Reads
from transformers_framework.models.relay import OneCall, Relay, Selection

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.modeling_outputs import ModelOutput

logger = logging.getLogger(__name__)


class MultiHeadModel(Model):
    """One or more head models of transformers on one shared backbone.

    With one head the head model stays whole. With several, the backbone of the model with most parameters is kept (it
    has the pooler when any has one), and decoders that are tied to the embeddings are tied again, to the shared ones.

    Args:
        heads: Head models of one family and one size by the name of their objective, in the order in which they run.
        newly_initialized: Names of the heads with weights that their checkpoint lacks.

    Raises:
        ConfigurationError: When the head models have no backbone of one class in common.
    """

    def __init__(self, heads: Mapping[str, PreTrainedModel], newly_initialized: Collection[str] = ()) -> None:
        super().__init__()
        assert heads, "a model needs at least one head"
        self.heads = cast("Mapping[str, PreTrainedModel]", nn.ModuleDict(dict(heads)))
        self._newly_initialized = {name: type(heads[name]).__name__ for name in newly_initialized}
        self.shared: PreTrainedModel | None = None
        self._accepts = {name: frozenset(_parameters_of(head)) for name, head in heads.items()}
        self.takes_lengths = all(map(_takes_options, heads.values()))  # of documents, as options of attention
        if self.takes_lengths:
            self._accepts = {name: known | ARGUMENTS for name, known in self._accepts.items()}
        self._declared: tuple[str, ...] = ()
        self._marks_first = False  # all heads give the first token global attention, as Longformer's classifier does
        self._selections = {name: Selection() for name in heads}
        if len(heads) > 1:
            self._share()
        else:
            ((name, head),) = heads.items()
            if head.base_model is not head:
                head.base_model.register_forward_hook(self._selections[name].hook)
        self._last_layer = LastLayer.of(self.backbone)
        self._reads_first = {name for name, head in heads.items() if reads_first_token(head)}
        self._reads_input = {name: str(head.reads) for name, head in heads.items() if hasattr(head, "reads")}

    # --- structure ---------------------------------------------------------------------------------------------------

    @property
    def backbone(self) -> PreTrainedModel:
        """The model without heads."""
        return self.shared if self.shared is not None else _base_of(next(iter(self.heads.values())))

    @property
    def backbones(self) -> list[PreTrainedModel]:
        """The only one."""
        return [self.backbone]

    @property
    def config(self) -> PreTrainedConfig:
        """The config of the backbone; every head has its own copy."""
        return self.backbone.config

    @property
    def newly_initialized(self) -> dict[str, str]:
        """Class names of the head models with weights that the checkpoint lacks, by the name of the head."""
        return self._newly_initialized

    @property
    def configs(self) -> list[PreTrainedConfig]:
        """Every config of the model, each once: the backbone's and each head's."""
        found = [self.backbone.config, *(head.config for head in self.heads.values())]
        return list({id(config): config for config in found}.values())

    def _share(self) -> None:
        backbones = {name: _base_of(head) for name, head in self.heads.items()}
        for name, head in self.heads.items():
            if backbones[name] is head or type(backbones[name]) is not type(next(iter(backbones.values()))):
                raise ConfigurationError(
                    f"--model {head.config.model_type}: its heads "
                    f"{', '.join(type(model).__name__ for model in self.heads.values())} have no backbone of one class "
                    "in common, so they cannot be trained together: choose another --model or a pipeline of one head."
                )
        shared = max(backbones.values(), key=lambda model: sum(p.numel() for p in model.parameters()))
        shared.config = copy.deepcopy(shared.config)
        self.shared, self._declared = shared, _parameters_of(shared)
        classifies = any("SequenceClassification" in type(head).__name__ for head in self.heads.values())
        self._marks_first = classifies and "global_attention_mask" in self._declared
        for name, head in self.heads.items():
            head.config = copy.deepcopy(head.config)
            self._attach(head, shared)
            tie(head)
            self._attach(head, Relay(shared, self._selections[name]))

    @staticmethod
    def _attach(head: PreTrainedModel, module: nn.Module) -> None:
        setattr(head, head.base_model_prefix, module)

    # --- running -----------------------------------------------------------------------------------------------------

    def forward(
        self,
        *,
        active: Sequence[str] | None = None,
        positions: Mapping[str, torch.Tensor] | None = None,
        reads: Mapping[str, Reads] | None = None,
        **inputs: Any,
    ) -> dict[str, ModelOutput]:
        """Run the backbone once and every active head on its output.

        Args:
            active: Names of the heads to run, all of them when it is not given.
            positions: By name of a head, the only positions of the batch that it gets, (N,) int64, flat: row * L +
                column of the backbone's last hidden state (B, L, H). Its logits are (N, V) then, instead of (B, L, V).
            reads: By name of a head, the positions of each row that it reads: those of ``positions``, if there are any.
                If all heads read some only, the last layer of the backbone computes no others, in families for which
                that was shown. Then the last hidden state is (B, P, H).
            **inputs: What transformers' models take, without labels: ``input_ids`` and ``attention_mask`` (B, L) int64,
                ``token_type_ids`` and the like. A head gets those that it knows.

        Returns:
            The output of each active head model by name.

        Raises:
            TypeError: When no active head takes an input.
            ConfigurationError: When there are positions for a head that is not apart from its backbone.
        """
        names = list(self.heads) if active is None else list(active)
        if unknown := set(inputs).difference(*(self._accepts[name] for name in names)):
            raise TypeError(f"no head of {names} takes the inputs {sorted(unknown)}")
        call = None if self.shared is None else OneCall(self.shared, self._declared)
        if self._marks_first:
            first = torch.arange(inputs["input_ids"].shape[1], device=inputs["input_ids"].device) == 0  # (L,) bool
            inputs.setdefault("global_attention_mask", first.long().expand_as(inputs["input_ids"]))
        outputs = {}
        try:
            renumbered = self._select(names, positions or {}, reads or {}, inputs)
            for name in names:
                head = self.heads[name]
                relay = None if call is None else getattr(head, head.base_model_prefix)
                if relay is not None:
                    relay.connect(call)
                own = {**inputs, **renumbered.get(name, {})}
                try:
                    outputs[name] = head(**{key: value for key, value in own.items() if key in self._accepts[name]})
                finally:
                    if relay is not None:
                        relay.connect(None)
        finally:
            for selection in self._selections.values():
                selection.select(None)
            if self._last_layer is not None:
                self._last_layer.select(None)
        return outputs

    def _select(
        self,
        names: Sequence[str],
        positions: Mapping[str, torch.Tensor],
        reads: Mapping[str, Reads],
        inputs: Mapping[str, torch.Tensor],
    ) -> dict[str, dict[str, torch.Tensor]]:
        """Set what the last layer computes and each head gets; return inputs of heads with positions in that."""
        for name in positions:
            self._check_apart(self.heads[name])
        own = {} if self._last_layer is None else self._reads(names, reads, inputs)
        length = inputs["input_ids"].shape[1] if own else 0
        if self._last_layer is None or sum(read.columns.shape[1] for read in own.values()) >= length:
            for name, where in positions.items():
                self._selections[name].select(where)
            return {}
        rows, firsts = joined(own, length)
        self._last_layer.select(rows)
        width, renumbered = rows.columns.shape[1], {}
        for name, (columns, places) in own.items():
            first, selection = firsts[name], self._selections[name]
            if places is not None and rows.attended is not None:
                selection.select(None, flattens=True)
            elif places is not None:
                selection.select(in_other_rows(places, columns.shape[1], width, first))
            elif name in self._reads_input:
                given = inputs[self._reads_input[name]]
                numbers = torch.arange(first, first + given.shape[1], device=given.device)
                renumbered[name] = {self._reads_input[name]: torch.where(given >= 0, numbers, given)}
        return renumbered

    def _reads(
        self, names: Sequence[str], reads: Mapping[str, Reads], inputs: Mapping[str, torch.Tensor]
    ) -> dict[str, Reads]:
        """Return the positions that each head reads, those of classifiers first; nothing if one reads all of them.

        The pooler of a backbone reads the first position of its last hidden state.
        """
        found = {}
        for name in sorted(names, key=lambda name: name not in self._reads_first):
            if name in reads:
                found[name] = reads[name]
            elif name in self._reads_input:
                found[name] = Reads(inputs[self._reads_input[name]].clamp(min=0))
            elif name in self._reads_first:
                found[name] = Reads(inputs["input_ids"].new_zeros(len(inputs["input_ids"]), 1))
            else:
                return {}
        return found

    @staticmethod
    def _check_apart(head: PreTrainedModel) -> None:
        if head.base_model is head:
            raise ConfigurationError(
                f"--model {head.config.model_type}: {type(head).__name__} is no head on a backbone of its own, so it "
                "cannot be given single positions. Choose another --model."
            )

    def accepted(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return those of the inputs of several models that a head of this one takes."""
        known = frozenset().union(*self._accepts.values())
        return {name: value for name, value in inputs.items() if name in known}

    # --- files -------------------------------------------------------------------------------------------------------

    def export(
        self,
        folder: str | Path,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        state_dict: Mapping[str, torch.Tensor] | None = None,
        learned: Mapping[str, Mapping[str, object]] | None = None,
        outputs: Mapping[str, int] | None = None,
    ) -> dict[str, Path]:
        """Write checkpoints that transformers' Auto classes load: in the folder itself, or a subfolder a head.

        Args:
            folder: Where to; made when absent. One head is written here, several as ``folder/NAME``, each whole.
            tokenizer: Written beside every checkpoint.
            state_dict: Weights to write instead of the model's own, with the keys of ``state_dict()``: those that a
                sharded strategy has gathered.
            learned: By the name of a head, further settings of its config that were found in training.
            outputs: By the name of a head of two classes, the number of its outputs: 1 is their difference.

        Returns:
            The folder of each head by name.
        """
        folders = {name: Path(folder, name) if self.shared is not None else Path(folder) for name in self.heads}
        for name, head in self.heads.items():
            weights = None if state_dict is None else self._weights_of(name, state_dict)
            relay: Any = getattr(head, head.base_model_prefix, None)
            head.config.update(dict((learned or {}).get(name, {})))
            if self.shared is not None:
                self._attach(head, self.shared)
                _copy_sizes(self.shared.config, head.config)
            config, num_outputs = head.config, (outputs or {}).get(name)
            try:
                if num_outputs not in (None, config.num_labels):
                    weights = head.state_dict() if weights is None else weights
                    head.config, weights = with_outputs(head, weights, num_outputs)
                head.save_pretrained(folders[name], state_dict=weights)
            finally:
                head.config = config
                if self.shared is not None:
                    self._attach(head, relay)
            if tokenizer is not None:
                tokenizer.save_pretrained(folders[name])
        return folders

    def _weights_of(self, name: str, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weights of one head model under the keys that it has alone."""
        head, own = self.heads[name], f"heads.{name}."
        weights = {key.removeprefix(own): value for key, value in state_dict.items() if key.startswith(own)}
        for key, value in state_dict.items():
            if key.startswith("shared."):
                weights[f"{head.base_model_prefix}.{key.removeprefix('shared.')}"] = value
        return weights


def _base_of(head: PreTrainedModel) -> PreTrainedModel:
    """Return the backbone of a head model, the model itself where it has no head."""
    return cast("PreTrainedModel", head.base_model)


def _parameters_of(model: PreTrainedModel) -> tuple[str, ...]:
    """Names of the inputs that a model's forward declares, in order."""
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return tuple(name for name, p in inspect.signature(model.forward).parameters.items() if p.kind not in kinds)


def _takes_options(model: PreTrainedModel) -> bool:
    """Return whether a model's forward takes options of attention."""
    parameters = inspect.signature(model.forward).parameters.values()
    return any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters)


def _copy_sizes(source: Any, target: Any) -> None:
    """Copy the sizes to which the backbone has grown to the config of a head."""
    for size in ("vocab_size", "type_vocab_size"):
        if hasattr(source, size):
            setattr(target, size, getattr(source, size))


def tie(model: PreTrainedModel) -> None:
    """Tie a model's decoder to its embeddings where its config asks for it, and assert that they are one tensor."""
    model.tie_weights()
    for target, source in model.all_tied_weights_keys.items():
        assert model.get_parameter(target) is model.get_parameter(source), f"{target} is not tied to {source}"
