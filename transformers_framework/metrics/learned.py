"""Metrics computed by models, BERTScore and BLEURT, with any suitable checkpoint of transformers."""

from __future__ import annotations

import contextlib
import logging
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.metrics.generation import References, RowScores
from transformers_framework.processing.tokenizer_json import read_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

BERT_SCORE_MODEL = "roberta-large"
BLEURT_MODEL = "Elron/bleurt-base-512"
BATCH_SIZE = 64  # pairs of texts that are scored together
UNKNOWN_LENGTH = 1_000_000  # tokenizers that know no longest input say more than this
SAFE_LENGTH = 510  # of models of 512 positions, two of which RoBERTa's family loses
# the layer of each model that agrees best with people (Zhang et al. 2020, "BERTScore", appendix B)
BEST_LAYERS = {
    "bert-base-uncased": 9,
    "bert-large-uncased": 18,
    "bert-base-multilingual-cased": 9,
    "distilbert-base-uncased": 5,
    "roberta-base": 10,
    "roberta-large": 17,
}


class LearnedScores(RowScores):
    """Scores of a model for each pair of a text and one of its references; the score of a row is its best pair's.

    The model is loaded with the first texts of a stage and freed at the end of the stage.

    Args:
        model: Hub name or local folder.
        flag: The flag that names it.

    Raises:
        ConfigurationError: When there is no such model, or it lacks the head that is needed.
    """

    auto_class: str
    _model: PreTrainedModel | None = None

    def __init__(self, model: str, flag: str) -> None:
        self.model_name, self.flag = model, flag
        try:
            self.tokenizer = read_tokenizer(model)
            self.config = self._load().config  # reports a missing model before training
        except (OSError, ValueError) as error:
            reason = str(error).strip().split("\n")[0]
            raise ConfigurationError(f"--{flag} {model}: no model could be loaded from there. {reason}") from error
        logger.info("%s: the checkpoint %s (--%s)", type(self).__name__, model, flag)

    def _load(self) -> PreTrainedModel:
        import transformers

        family = getattr(transformers, self.auto_class)
        model: PreTrainedModel
        model, found = family.from_pretrained(self.model_name, dtype=torch.float32, output_loading_info=True)
        if absent := [key for key in found["missing_keys"] if "pooler" not in key]:
            raise ConfigurationError(
                f"--{self.flag} {self.model_name}: the checkpoint has no weights for {', '.join(sorted(absent)[:3])}. "
                "Give one that was trained for this."
            )
        model.eval()
        return model

    @abstractmethod
    def pair_scores(self, model: PreTrainedModel, preds: list[str], references: list[str]) -> Tensor:
        """Return the scores of N pairs, (N, size) float32."""

    def scores(self, preds: Sequence[str], references: References) -> NDArray[np.float64]:
        """Return the scores of B rows: the best of each score over the row's references, (B, size) float64."""
        counts = np.array([len(rights) for rights in references])
        texts = [pred for pred, rights in zip(preds, references, strict=True) for _ in rights]
        targets = list(chain.from_iterable(references))
        with torch.inference_mode(), self._loaded() as model:
            pairs = [
                self.pair_scores(model, texts[start : start + BATCH_SIZE], targets[start : start + BATCH_SIZE])
                for start in range(0, len(texts), BATCH_SIZE)
            ]
        return np.maximum.reduceat(torch.cat(pairs).double().cpu().numpy(), np.cumsum(counts) - counts, axis=0)

    @contextlib.contextmanager
    def _loaded(self) -> Iterator[PreTrainedModel]:
        """Yield the model where it runs fastest, in its own precision whatever that of the run is."""
        if self._model is None:
            model: nn.Module = self._load()
            self._model = cast("PreTrainedModel", model.to("cuda" if torch.cuda.is_available() else "cpu"))
        with torch.autocast(self._model.device.type, enabled=False):
            yield self._model

    def release(self) -> None:
        """Free the memory of the model."""
        self._model = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the state that loader workers need: without the model."""
        return {**vars(self), "_model": None}

    def encode(self, model: PreTrainedModel, *texts: list[str]) -> Any:
        """Return the model inputs of texts or pairs of texts, truncated to the maximum length."""
        known = self.tokenizer.model_max_length
        longest = known if known < UNKNOWN_LENGTH else SAFE_LENGTH
        options = {"return_special_tokens_mask": True, "return_tensors": "pt"}
        return self.tokenizer(*texts, padding=True, truncation=True, max_length=longest, **options).to(model.device)


class BertScore(LearnedScores):
    """BERTScore: similarity of two texts by matching the hidden states of their tokens.

    Without idf weights and without rescaling. Texts without a token have the score 0.
    (Zhang, Kishore, Wu, Weinberger, Artzi 2020, "BERTScore: Evaluating Text Generation with BERT", section 3.)

    Args:
        model: Encoder: a hub name or a local folder.
        num_layers: Layer whose hidden states are compared; by default the one recommended by the authors of BERTScore
            for the model, else the last.

    Raises:
        ConfigurationError: When there is no such model, or it has no such layer.
    """

    names = ("bert_score_precision", "bert_score_recall", "bert_score_f1")
    auto_class = "AutoModel"

    def __init__(self, model: str, num_layers: int | None = None) -> None:
        super().__init__(model, "bert_score_model")
        deepest = self.config.num_hidden_layers
        self.layer = num_layers or BEST_LAYERS.get(model.split("/")[-1], deepest)
        if self.layer > deepest:
            raise ConfigurationError(
                f"--bert_score_num_layers {self.layer}: {model} has {deepest} layers. Give {deepest} or less."
            )

    def pair_scores(self, model: PreTrainedModel, preds: list[str], references: list[str]) -> Tensor:
        """Return precision, recall and F1 of N pairs, (N, 3) float32."""
        (states, taken, weights), (other, other_taken, other_weights) = (
            self._states(model, texts) for texts in (preds, references)
        )
        # as in the authors' code: special tokens may be matched but have no weight, padding matches nothing
        similarity = states @ other.mT * (taken[:, :, None] * other_taken[:, None])  # (N, P, R)
        precision = (similarity.amax(dim=2) * weights).sum(dim=1)
        recall = (similarity.amax(dim=1) * other_weights).sum(dim=1)
        written = weights.any(dim=1) & other_weights.any(dim=1)
        precision, recall = precision * written, recall * written
        f1 = torch.nan_to_num(2 * precision * recall / (precision + recall))
        return torch.stack([precision, recall, f1], dim=1)

    def _states(self, model: PreTrainedModel, texts: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Return normalized hidden states (N, L, H), and attention mask and weights of tokens (N, L)."""
        encoded = self.encode(model, texts)
        special = encoded.pop("special_tokens_mask")
        states = model(**encoded, output_hidden_states=True).hidden_states[self.layer].float()
        taken = encoded["attention_mask"].float()
        weights = taken * (1 - special)
        weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1)
        return states / states.norm(dim=-1, keepdim=True), taken, weights


class Bleurt(LearnedScores):
    """BLEURT: a regression model trained on human ratings.

    (Sellam, Das, Parikh 2020, "BLEURT: Learning Robust Metrics for Text Generation".)

    Args:
        model: A sequence classifier with a single output: hub name or local folder.

    Raises:
        ConfigurationError: When there is no such model, or it has several outputs.
    """

    names = ("bleurt",)
    auto_class = "AutoModelForSequenceClassification"

    def __init__(self, model: str) -> None:
        super().__init__(model, "bleurt_model")
        if self.config.num_labels != 1:
            raise ConfigurationError(
                f"--bleurt_model {model}: its head has {self.config.num_labels} outputs; expected a single score. Use "
                "a BLEURT checkpoint."
            )

    def pair_scores(self, model: PreTrainedModel, preds: list[str], references: list[str]) -> Tensor:
        """Return the scores of N pairs, (N, 1) float32."""
        encoded = self.encode(model, references, preds)  # the reference goes first
        encoded.pop("special_tokens_mask")
        logits: Tensor = model(**encoded).logits
        return logits.float()
