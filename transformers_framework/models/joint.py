"""Models that read a question and several candidates at once, of any family of encoders: heads, loading, use.

A joint re-ranker is a family's own backbone with a head on the first tokens of the question and of each candidate. Its
class is made from the family's, so that transformers loads and saves it as any other head, and an export is a
checkpoint from which ``AutoModel`` takes the backbone; :class:`JointReRanker` takes all of it.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from transformers_framework.compat.transformers import from_config, model_mapping
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.processing.backend import bare_tokenizer
from transformers_framework.processing.encoding import Template, tokenize
from transformers_framework.processing.grouping import IN_TURN, Grouping, assemble_candidates, evidence_pooling

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

SUFFIX = "ForJointReRanking"
HEAD = "answer_selection"  # folder of this head where an export has several

NUM_CLASSES = 2  # whose logits differ by the score of a candidate

logger = logging.getLogger(__name__)


class JointHead(nn.Module):
    """Dropout, dense, tanh, dropout and a linear layer on the hidden states of first tokens.

    With h_0 that of the question's first token and h_i of candidate i's: IE_1 reads h_0 for the first candidate,
    IE_k each h_i, AE_1 the mean of h_0 … h_k, AE_k each [h_0; h_i], RE_1 h_0 for the group, and RE_k h_0 for all
    candidates, by k·C outputs (Di Liello, Garg, Soldaini, Moschitti 2022, "Paragraph-based Transformer Pre-training for
    Multi-Sentence Inference", section 3.3). In checkpoints of earlier versions AE_1 reads the sum of h_1 … h_k; their
    config has no ``evidence_pooling``, and in their ``state_dict`` the version of this module is 1.

    Args:
        config: Has ``classification_head_type``, ``num_labels``, ``num_candidates`` for RE_k, and for AE_1
            ``evidence_pooling``, mean or sum.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.kind, self.num_labels = config.classification_head_type, config.num_labels
        self.config = config
        self.averages = evidence_pooling(config) == "mean"
        hidden = config.hidden_size
        names = ("classifier_dropout", "hidden_dropout_prob", "hidden_dropout", "dropout")
        rates = (getattr(config, name, None) for name in names)
        self.dropout = nn.Dropout(next((rate for rate in rates if rate is not None), 0.0))
        self.dense = nn.Linear(2 * hidden if self.kind == "AE_k" else hidden, hidden)
        self.out_proj = nn.Linear(hidden, self.num_labels * (config.num_candidates if self.kind == "RE_k" else 1))

    @property
    def _version(self) -> int:  # type: ignore[override]
        """Version of the weights, which torch keeps in ``state_dict``: 1 if AE_1 reads the sum."""
        return 2 if self.averages else 1

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *further: Any) -> None:
        """Pool as the model did that the weights are from, if ``state_dict`` has its version."""
        version = local_metadata.get("version")
        if self.kind == "AE_1" and version is not None and (version > 1) != self.averages:
            self.averages = not self.averages
            self.config.evidence_pooling = pooling = "mean" if self.averages else "sum"
            logger.warning("The head AE_1 reads the %s of hidden states, as the run of its checkpoint did.", pooling)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *further)

    def forward(self, hidden_states: Tensor, present: Tensor) -> Tensor:
        """Return logits ``(B, K, C)``, or ``(B, 1, C)`` of heads with one label.

        Args:
            hidden_states: Of the first tokens of the question and K candidates ``(B, 1 + K, H)``.
            present: Which candidates there are ``(B, K) bool``.
        """
        question, candidates = hidden_states[:, :1], hidden_states[:, 1:]
        if self.kind == "IE_k":
            features = candidates
        elif self.kind == "AE_1":
            features = (candidates * present[..., None]).sum(dim=1, keepdim=True)
            if self.averages:
                features = (question + features) / (1 + present.sum(dim=1)[:, None, None])
        elif self.kind == "AE_k":
            features = torch.cat([question.expand_as(candidates), candidates], dim=-1)
        else:
            features = question
        logits: Tensor = self.out_proj(self.dropout(torch.tanh(self.dense(self.dropout(features)))))
        if self.kind == "RE_k":
            logits = logits[:, 0].unflatten(1, (-1, self.num_labels))[:, : candidates.shape[1]]
        return logits


def gather_positions(hidden_states: Tensor, positions: Tensor) -> Tensor:
    """Return hidden states ``(B, S, H)`` at positions ``(B, S) int64`` of ``(B, L, H)``."""
    return hidden_states.gather(1, positions[..., None].expand(-1, -1, hidden_states.shape[-1]))


class _JointReRanking(PreTrainedModel if TYPE_CHECKING else object):  # type: ignore[misc]
    """Mixin that makes a joint re-ranker of a family's ``PreTrainedModel``."""

    backbone_class: Any
    reads = "first_tokens"  # model input with the positions that the head reads, -1 where there is none

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        pools = "add_pooling_layer" in inspect.signature(self.backbone_class.__init__).parameters
        backbone = self.backbone_class(config, **({"add_pooling_layer": False} if pools else {}))
        setattr(self, self.base_model_prefix, backbone)
        self.classifier = JointHead(config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        first_tokens: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Return the logits of K candidates, ``(B, K, C)``, or of their group, ``(B, 1, C)``.

        Args:
            input_ids: Question and candidates in one sequence ``(B, L) int64``.
            attention_mask: 0 at padding ``(B, L)``.
            token_type_ids: Type of each token ``(B, L) int64``.
            position_ids: Position of each token ``(B, L) int64``.
            first_tokens: Where the question and each candidate begin, -1 where there is none ``(B, 1 + K) int64``.
            **kwargs: Further arguments of the backbone.
        """
        assert first_tokens is not None
        given = {
            "attention_mask": attention_mask, "token_type_ids": token_type_ids, "position_ids": position_ids
        } | kwargs  # fmt: skip
        backbone = getattr(self, self.base_model_prefix)
        hidden = backbone(input_ids, **{name: value for name, value in given.items() if value is not None})[0]
        hidden = gather_positions(hidden, first_tokens.clamp(min=0))
        return SequenceClassifierOutput(logits=self.classifier(hidden, first_tokens[:, 1:] >= 0))


def remedy(config: Any) -> str:
    """Return with which flags a joint re-ranker was trained, as a sentence; an empty text of another config.

    Args:
        config: Config of a checkpoint.
    """
    k = getattr(config, "num_candidates", None)
    head_type = getattr(config, "classification_head_type", None)
    return f"It reads {k} candidates together: give -k {k} --classification_head_type {head_type}." if k else ""


@cache
def joint_class(config_class: Any) -> Any:
    """Return the joint re-ranker of a family, by the class of its configs."""
    from transformers import AutoModel

    backbone: Any = model_mapping(AutoModel)[config_class]
    family = next(base for base in backbone.__mro__ if base.__name__.endswith("PreTrainedModel"))
    name = family.__name__.removesuffix("PreTrainedModel") + SUFFIX
    return type(name, (_JointReRanking, family), {"backbone_class": backbone, "__module__": __name__})


class _Families:
    """The joint re-ranker of each config class, with the interface of the mappings of transformers' Auto classes."""

    def __contains__(self, config_class: type[PreTrainedConfig]) -> bool:
        from transformers import AutoModel, AutoModelForSeq2SeqLM, AutoModelForTokenClassification

        encodes = config_class in model_mapping(AutoModel) and config_class in model_mapping(
            AutoModelForTokenClassification
        )
        return encodes and config_class not in model_mapping(AutoModelForSeq2SeqLM)

    def __getitem__(self, config_class: type[PreTrainedConfig]) -> Any:
        return joint_class(config_class)  # type: ignore[arg-type]


class AutoModelForJointReRanking:
    """Makes joint re-rankers as transformers' Auto classes make their heads."""

    _model_mapping = _Families()

    @classmethod
    def from_config(cls, config: PreTrainedConfig, **options: Any) -> Any:
        """Return a model with randomly initialized weights."""
        return from_config(cls._model_mapping[type(config)], config, **options)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, *, config: PreTrainedConfig | None = None, **options: Any
    ) -> Any:
        """Return a model with the weights of a checkpoint, of any head of its family."""
        from transformers import AutoConfig

        options.pop("trust_remote_code", None)
        config = config or AutoConfig.from_pretrained(name_or_path)
        return cls._model_mapping[type(config)].from_pretrained(name_or_path, config=config, **options)


class JointReRanker:
    """A trained joint re-ranker with its tokenizer: scores candidates, k at a time, as testing does.

    Args:
        model: A model of :class:`AutoModelForJointReRanking`.
        tokenizer: Its tokenizer, a fast one.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        from transformers_framework.models.multi_head import MultiHeadModel

        self.model, self.tokenizer = model.eval(), tokenizer
        self.heads = MultiHeadModel({HEAD: model})
        self.template, self.backend = Template.of(tokenizer), bare_tokenizer(tokenizer)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> JointReRanker:
        """Load what a run exported.

        Args:
            folder: A folder of ``pre_trained_models``; of several heads in it, that of ``answer_selection`` is taken.
            **options: As for ``from_pretrained`` of transformers, as ``dtype``.

        Raises:
            ConfigurationError: When it is no joint re-ranker.
        """
        from transformers import AutoConfig, AutoTokenizer

        if not Path(folder, "config.json").exists() and Path(folder, HEAD, "config.json").exists():
            folder = Path(folder, HEAD)
        config = AutoConfig.from_pretrained(folder)
        if not any(name.endswith(SUFFIX) for name in config.architectures or ()):
            raise ConfigurationError(f"{folder}: {config.architectures} is no joint re-ranker. Train one with -k.")
        if config.num_labels != NUM_CLASSES:
            raise ConfigurationError(
                f"{folder}: it has {config.num_labels} classes and classifies groups, so it gives no scores of "
                "candidates. Use it with the predict command, or AutoModelForJointReRanking."
            )
        model = AutoModelForJointReRanking.from_pretrained(folder, config=config, **options)
        return cls(model, AutoTokenizer.from_pretrained(folder))

    @torch.inference_mode()
    def score(
        self, questions: Sequence[str], candidates: Sequence[Sequence[str]], *, batch_size: int = 32
    ) -> list[list[float]]:
        """Return by how much each candidate is rather right than wrong: the ``scores`` of predictions.

        Args:
            questions: Questions.
            candidates: The candidates of each, in the order in which they are put into groups.
            batch_size: Groups that are computed together.

        Raises:
            TypeError: When one text stands where a list of texts should.
            ValueError: When there are not as many lists of candidates as questions.
        """
        if isinstance(questions, str) or any(isinstance(texts, str) for texts in (candidates, *candidates)):
            raise TypeError('questions are a list of texts, candidates a list of lists: score(["q"], [["a", "b"]])')
        if len(questions) != len(candidates):
            raise ValueError(f"{len(questions)} questions and {len(candidates)} lists of candidates; one for each.")
        config = self.model.config
        sizes = [len(texts) for texts in candidates]
        owners, flat = np.repeat(np.arange(len(questions)), sizes), list(chain.from_iterable(candidates))
        grouping = Grouping.of(
            owners, k=config.num_candidates, in_turn=(in_turn := config.classification_head_type in IN_TURN)
        )
        bins, found = grouping.bins(0, 0), np.zeros(len(flat))
        lengths = np.array([len(text) for text in flat])
        groups = [bins[number] for number in range(len(bins))]
        groups.sort(key=lambda rows: -int(lengths[rows].sum()))
        for start in range(0, len(groups), batch_size):
            batch = groups[start : start + batch_size]
            texts = [[questions[owners[rows[0]]], *(flat[row] for row in rows)] for rows in batch]
            logits = self.heads(**self._encoded(texts))[HEAD].logits.float()
            scores = (logits[..., 1] - logits[..., 0]).cpu().numpy()
            for rows, values in zip(batch, scores, strict=True):
                found[rows[:1] if in_turn else rows] = values[: len(rows)]
        ends = np.cumsum(sizes, dtype=np.int64)
        return [found[end - size : end].tolist() for end, size in zip(ends, sizes, strict=True)]

    def _encoded(self, texts: Sequence[Sequence[str]]) -> dict[str, Tensor]:
        config, types = self.model.config, self.template.token_types
        knows = int(getattr(config, "type_vocab_size", 0) or 0)
        counts = np.array([len(row) for row in texts])
        batch = assemble_candidates(
            *tokenize(self.backend, list(chain.from_iterable(texts))),
            counts,
            self.template,
            max_length=config.candidate_length,
            separated=config.separated,
            pad_token_id=int(self.tokenizer.pad_token_id),
            token_types=config.candidate_token_types or (types if 0 < max(types) < knows else None),
            pad_left=self.tokenizer.padding_side == "left",
        )
        del batch["truncated"]
        return {name: torch.from_numpy(values).to(self.model.device) for name, values in batch.items()}
