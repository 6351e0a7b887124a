"""BART and T5 that predict several tokens at each step of the decoder, and the search for texts with them.

The decoder reads a target as usual, and only every m-th position predicts: a projection (d → m·d) turns its hidden
state into m, one for each of the next m tokens, and all of them go through the vocabulary head. So a text of T
tokens takes T / m calls of the decoder. With m = 1 there is no projection, and nothing differs from the plain model.

Exports carry a copy of this file, which transformers runs for those who trust it (``trust_remote_code=True``): it
imports nothing but torch and transformers.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSeq2SeqLM,
    BartConfig,
    BartForConditionalGeneration,
    BartModel,
    DynamicCache,
    EncoderDecoderCache,
    GenerationConfig,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
    T5Model,
)
from transformers.initialization import copy_

NEVER = -1e9  # score of what must not be chosen; transformers adds it too, and ties are broken alike
MODES = ("greedy_search", "sample", "beam_search", "beam_sample")
# options of other searches, with the values that do not ask for them
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "cache_implementation": (None, "dynamic"),
    "guidance_scale": (None, 1),
    "low_memory": (None, False),
    "prefill_chunk_size": (None,),
    "return_dict_in_generate": (None, False),
    "stop_strings": (None,),
    "token_healing": (None, False),
    "use_cache": (None, True),
}
# arguments of transformers' generate that are not for a decoder which is called once for several tokens
REFUSED = ("assistant_model", "custom_generate", "decoder_attention_mask", "past_key_values", "streamer")


# --- models ----------------------------------------------------------------------------------------------------------


class MultiTokenBartConfig(BartConfig):
    """Config of a BART that predicts ``max_multi_token_predictions`` tokens at each step."""

    model_type = "multi_token_bart"
    max_multi_token_predictions: int = 2


class MultiTokenT5Config(T5Config):
    """Config of a T5 that predicts ``max_multi_token_predictions`` tokens at each step."""

    model_type = "multi_token_t5"
    max_multi_token_predictions: int = 2


class MultiTokenBartModel(BartModel):
    """BART without its heads."""

    config_class = MultiTokenBartConfig


class MultiTokenT5Model(T5Model):
    """T5 without its heads."""

    config_class = MultiTokenT5Config


class MultiTokenGenerationMixin:
    """Mixin that lets an encoder-decoder of transformers predict m tokens at each step of the decoder.

    The output of the decoder is replaced, and nothing changes for its head: target t + 1 is still predicted from hidden
    state t. It comes from the last position at or before t that is a multiple of m. With a cache, the decoder returns
    the m hidden states (B, m, d) for the tokens after the last one that it has read, which must be at such a position.

    Args:
        config: Config with ``max_multi_token_predictions``.

    Raises:
        ValueError: When that is less than one.
    """

    projection: nn.Linear | None

    def __init__(self, config: Any) -> None:
        super().__init__(config)  # type: ignore[call-arg]
        m = config.max_multi_token_predictions
        if m < 1:
            raise ValueError(f"max_multi_token_predictions is {m}: a step predicts one token at least.")
        self.projection = nn.Linear(config.d_model, m * config.d_model, bias=False) if m > 1 else None
        if self.projection is not None:
            self._init_weights(self.projection)
            self.get_decoder().register_forward_hook(self._look_ahead, with_kwargs=True)  # type: ignore[attr-defined]

    def _init_weights(self, module: nn.Module) -> None:
        """Initialize the projection so that all m hidden states equal the decoder's: training starts from these."""
        if module is getattr(self, "projection", None):  # the family's own modules are made before it
            size, d = module.weight.shape
            copy_(module.weight, torch.eye(d).repeat(size // d, 1))
        else:
            super()._init_weights(module)  # type: ignore[misc]

    def _look_ahead(self, decoder: nn.Module, args: Any, kwargs: Mapping[str, Any], output: Any) -> Any:
        """Return the decoder's output with projected hidden states, (B, T, d), or (B, m, d) where there is a cache."""
        assert self.projection is not None
        hidden, d = output[0], self.projection.in_features
        if kwargs.get("past_key_values") is not None:
            ahead = self.projection(hidden[:, -1:]).view(len(hidden), -1, d)
        else:
            starts = hidden[:, :: self.projection.out_features // d]  # (B, ceil(T / m), d)
            ahead = self.projection(starts).view(len(hidden), -1, d)[:, : hidden.shape[1]]
        if isinstance(output, tuple):
            return (ahead, *output[1:])
        return type(output)(**{**output, "last_hidden_state": ahead})

    def check_generation(self, generation_config: GenerationConfig | None = None, **arguments: Any) -> None:
        """Check that :meth:`generate` can do what is asked.

        Args:
            generation_config: Options of the search; those that it leaves open are the model's own.
            **arguments: Other arguments of ``generate``; options among them win.

        Raises:
            ValueError: When it cannot; lists everything that it does not know.
        """
        asked = copy.deepcopy(self.generation_config)  # type: ignore[attr-defined]
        for options in (vars(generation_config) if generation_config is not None else {}, arguments):
            for name, value in options.items():
                if value is not None and hasattr(asked, name):
                    setattr(asked, name, value)
        wrong = [f"`{name}`" for name in REFUSED if arguments.get(name) is not None]
        for name, neutral in UNSUPPORTED.items():
            if (value := getattr(asked, name, None)) not in neutral:
                wrong.append(f"`{name}={value}`")
        if (mode := asked.get_generation_mode().value) not in MODES:
            wrong.append(mode.replace("_", " "))
        if wrong:
            raise ValueError(
                f"{type(self).__name__} cannot generate with {', '.join(wrong)}. It searches greedily, by sampling and "
                "by beams, with a cache of its own, and returns token ids."
            )

    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *,
        synced_gpus: bool | None = None,
        **arguments: Any,
    ) -> Tensor:
        """Return generated texts, with one call of the decoder for m tokens.

        Arguments, options and their defaults are those of transformers' ``generate``, which prepares everything.

        Args:
            inputs: Token ids of the sources (B, L) int64, also by their name, ``input_ids``.
            generation_config: Options of the search; by default the model's own.
            synced_gpus: Call the decoder until all processes are done: where each holds a part of the weights.
            **arguments: ``attention_mask`` (B, L), ``decoder_input_ids`` (B, P) to begin with, ``logits_processor``,
                ``stopping_criteria``, or any option of ``GenerationConfig``.

        Returns:
            Token ids (B · num_return_sequences, T) int64: what the decoder began with first, padding last.

        Raises:
            ValueError: When an option is wrong, or not one of this search.
        """
        self.check_generation(generation_config, **arguments)
        search = functools.partial(decode, synced_gpus=bool(synced_gpus))
        made = super().generate(inputs, generation_config, custom_generate=search, **arguments)  # type: ignore[misc]
        return cast("Tensor", made)


class MultiTokenBartForConditionalGeneration(MultiTokenGenerationMixin, BartForConditionalGeneration):  # type: ignore[misc]
    """BART that predicts several tokens at each step."""

    config_class = MultiTokenBartConfig


class MultiTokenT5ForConditionalGeneration(MultiTokenGenerationMixin, T5ForConditionalGeneration):  # type: ignore[misc]
    """T5 that predicts several tokens at each step."""

    config_class = MultiTokenT5Config


# --- search ----------------------------------------------------------------------------------------------------------


def decode(
    model: PreTrainedModel,
    input_ids: Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: GenerationConfig,
    synced_gpus: bool = False,
    **model_kwargs: Any,
) -> Tensor:
    """Return generated texts (N, T) int64; transformers' ``generate`` calls this after its preparations.

    A block is what one call of the decoder predicts: m distributions for each row, which know the tokens before the
    block and not those within it. Rows grow through it token by token, so processors, stopping criteria and the ranking
    of beams get each token. The decoder then reads them all in its next call.

    Args:
        model: A multi-token model.
        input_ids: What the decoder begins with (N, P) int64, N = B · max(beams, texts a row).
        logits_processor: Changes the scores of the next token.
        stopping_criteria: Says which texts end.
        generation_config: Options, all filled in.
        synced_gpus: Call the decoder until all processes are done.
        **model_kwargs: The encoder's output and its mask.
    """
    m: int = model.config.max_multi_token_predictions
    model_kwargs |= {"past_key_values": EncoderDecoderCache(DynamicCache(), DynamicCache()), "use_cache": True}
    kind = Beams if generation_config.num_beams > 1 else Rows
    search = kind(input_ids, logits_processor, stopping_criteria, generation_config)
    read = 0  # tokens that the decoder has read
    while not _all_done(search.is_done, input_ids.device, synced_gpus):
        length = search.ids.shape[1]
        start = (length - 1) // m * m  # the position from which the next tokens are predicted
        unread = search.ids[:, min(read, start) : start + 1]
        logits = model(decoder_input_ids=unread, return_dict=True, **model_kwargs).logits[:, -m:]  # (N, m, V)
        read, rows = start + 1, torch.arange(len(logits), device=logits.device)
        for ahead in range(length - 1 - start, m):
            if search.is_done:
                break
            rows = rows[search.extend(logits[:, ahead].index_select(0, rows).float())]  # processors may write into it
        if isinstance(search, Beams):
            # beams of one source attend to the same encoder: only the cache of the targets moves with them
            model_kwargs["past_key_values"].self_attention_cache.reorder_cache(rows)
    return search.texts()


def _all_done(done: bool, device: torch.device, synced: bool) -> bool:
    if not synced:
        return done
    running = torch.tensor(float(not done), device=device)
    torch.distributed.all_reduce(running)
    return running.item() == 0


class Rows:
    """Greedy search or sampling: texts grow by their most probable token, or by a sampled one, each until it ends.

    Args:
        ids: What they begin with (N, P) int64.
        processors: Change the scores of the next token.
        criteria: Say which texts end.
        config: Options.
    """

    def __init__(self, ids: Tensor, processors: Any, criteria: Any, config: GenerationConfig) -> None:
        self.ids, self.processors, self.criteria = ids, processors, criteria
        self.samples = bool(config.do_sample)
        self.eos = [] if config.eos_token_id is None else torch.as_tensor(config.eos_token_id).flatten().tolist()
        self.pad = config.pad_token_id if config.pad_token_id is not None or not self.eos else self.eos[0]
        self.is_done = False
        self.all_rows = torch.arange(len(ids), device=ids.device)
        self.running = torch.ones(len(ids), dtype=torch.bool, device=ids.device)

    def extend(self, logits: Tensor) -> Tensor:
        """Add a token to each text.

        Args:
            logits: Scores of the next token (N, V) float32.

        Returns:
            Which of the rows each row continues (N,) int64.
        """
        scores = self.processors(self.ids, logits)
        tokens = torch.multinomial(scores.softmax(-1), 1)[:, 0] if self.samples else scores.argmax(-1)
        if self.eos:
            tokens = tokens.where(self.running, self.pad)
        self.ids = torch.cat([self.ids, tokens[:, None]], dim=1)
        self.running = self.running & ~self.criteria(self.ids, None)
        self.is_done = not self.running.any()
        return self.all_rows

    def texts(self) -> Tensor:
        """Return the texts (N, T) int64."""
        return self.ids


class Beams(Rows):
    """Beam search: of each source the k best texts that go on, and the k best that have ended.

    Scores are sums of log-probabilities, divided by the length to the power of ``length_penalty`` once a text has
    ended. It keeps to the rules of transformers and to the order of their sums, so that no tie is broken otherwise.
    Arguments are those of :class:`Rows`, with N = B · k.
    """

    def __init__(self, ids: Tensor, processors: Any, criteria: Any, config: GenerationConfig) -> None:
        super().__init__(ids, processors, criteria, config)
        k, device = config.num_beams, ids.device
        self.prompt, self.longest, self.returned = ids.shape[1], config.max_length, config.num_return_sequences
        self.penalty, self.early_stopping = config.length_penalty, config.early_stopping
        self.num_candidates = max(2, 1 + len(self.eos)) * k  # k of them go on, if each text has all its ends among them
        self.scores = torch.zeros(len(ids) // k, k, device=device)  # (B, k)
        self.scores[:, 1:] = NEVER  # all beams are the same still
        self.offsets = torch.arange(0, len(ids), k, device=device)[:, None]  # first row of each source (B, 1)
        self.ended = torch.zeros(self.scores.shape, dtype=torch.bool, device=device)
        self.ended_scores = torch.full_like(self.scores, NEVER)
        self.ended_lengths = torch.zeros(self.scores.shape, dtype=torch.int64, device=device)
        self.fill = (self.pad or self.eos[0]) if self.eos else -1  # transformers takes a pad of 0 for none
        self.ended_ids = self._padded(ids.view(*self.scores.shape, -1))  # (B, k, longest)
        self.improvable = torch.ones(len(self.scores), 1, dtype=torch.bool, device=device)

    def extend(self, logits: Tensor) -> Tensor:
        """Add a token to each text that goes on: the best k of all continuations of a source's texts.

        Args:
            logits: Scores of the next token (B · k, V) float32.

        Returns:
            Which of the rows each row continues (B · k,) int64.
        """
        (num_sources, k), vocabulary = self.scores.shape, logits.shape[1]
        log_probabilities = self.processors(self.ids, logits.log_softmax(-1)).view(num_sources, k, vocabulary)
        totals = (log_probabilities + self.scores[..., None]).flatten(1)  # (B, k · V)
        if self.samples:
            chosen = torch.multinomial(totals.softmax(-1), self.num_candidates)
            totals = totals.gather(1, chosen)
        else:
            totals, chosen = totals.topk(self.num_candidates)  # both (B, K)
        rows = chosen // vocabulary + self.offsets
        candidates = torch.cat([self.ids[rows], (chosen % vocabulary)[..., None]], dim=2)  # (B, K, length)
        ends = self.criteria(candidates.flatten(0, 1), None).view(rows.shape)
        self.scores, going_on = (totals + ends * NEVER).topk(k)
        self._collect(candidates, totals, ends)
        self.ids = _pick(candidates, going_on).flatten(0, 1)
        self._judge(bool(ends.all()))
        return rows.gather(1, going_on).flatten()

    def _collect(self, candidates: Tensor, totals: Tensor, ends: Tensor) -> None:
        """Keep the k best texts that have ended, of those known and those among the k best candidates."""
        k, length = self.scores.shape[1], candidates.shape[2] - self.prompt
        ends = ends & (torch.arange(ends.shape[1], device=ends.device) < k)
        scores = totals / length**self.penalty
        is_full = self.ended.all(dim=1, keepdim=True) & (self.early_stopping is True)
        for barred in (is_full, ~self.improvable, ~ends):
            scores = scores + barred * NEVER
        self.ended_scores, best = torch.cat([self.ended_scores, scores], dim=1).topk(k)
        self.ended = torch.cat([self.ended, ends], dim=1).gather(1, best)
        lengths = torch.cat([self.ended_lengths, ends.new_full(ends.shape, length, dtype=torch.int64)], dim=1)
        self.ended_lengths = lengths.gather(1, best)
        self.ended_ids = _pick(torch.cat([self.ended_ids, self._padded(candidates)], dim=1), best)

    def _judge(self, all_end: bool) -> None:
        """Find out which sources may yet get better texts, and whether the search is done."""
        generated = self.ids.shape[1] - self.prompt
        reach = self.longest - self.prompt if self.early_stopping == "never" and self.penalty > 0 else generated
        possible = self.scores[:, :1] / reach**self.penalty
        worst = self.ended_scores.amin(dim=1, keepdim=True).where(self.ended, NEVER)  # (B, k)
        self.improvable = self.improvable & (possible > worst).any(dim=1, keepdim=True)
        is_full = self.early_stopping is True and bool(self.ended.all())
        self.is_done = all_end or is_full or not self.improvable.any()

    def _padded(self, ids: Tensor) -> Tensor:
        return functional.pad(ids, (0, self.longest - ids.shape[-1]), value=self.fill)

    def texts(self) -> Tensor:
        """Return the best texts of each source (B · num_return_sequences, T) int64."""
        length = self.prompt + int(self.ended_lengths[:, : self.returned].max())
        return self.ended_ids[:, : self.returned, :length].flatten(0, 1)


def _pick(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the chosen (B, k) of values (B, K, length) as (B, k, length)."""
    return values.take_along_dim(chosen[..., None], dim=1)


# --- transformers' Auto classes --------------------------------------------------------------------------------------

for family, bare, head in (
    (MultiTokenBartConfig, MultiTokenBartModel, MultiTokenBartForConditionalGeneration),
    (MultiTokenT5Config, MultiTokenT5Model, MultiTokenT5ForConditionalGeneration),
):
    family.register_for_auto_class()
    head.register_for_auto_class("AutoModelForSeq2SeqLM")
    if not __name__.startswith("transformers_modules"):  # a checkpoint's copy of this file changes nothing for others
        AutoConfig.register(family.model_type, family)
        AutoModel.register(family, bare)
        AutoModelForSeq2SeqLM.register(family, head)
