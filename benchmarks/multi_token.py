"""Decoders that predict m tokens a step: how many tokens a second they write, and how right they are.

Speed: a BART of 4 + 4 layers with random weights writes texts of 64 tokens, greedily and with 4 beams, and so does
transformers' own ``generate`` with the plain model of the same weights. Nothing ends early, so all do the same.
Quality: a small BART learns for some steps to write, of a text of random words, those of one kind in their order;
ROUGE-L is that of texts found with 4 beams.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks.rounds import alternate, median, median_ratio, table

if TYPE_CHECKING:
    import torch

PREDICTIONS = (1, 2, 4)
BATCH_SIZE, SOURCE, TARGET, BEAMS = 16, 128, 64, 4
PEER = "transformers' `generate`"
# of the task: ids 0 to 3 are special, then each place of a text has its own words, the even ones to be written
PAD, START, EOS, WORDS, PLACES, WORDS_A_PLACE = 1, 2, 2, 4, 24, 8
SIZES = {
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
    "bos_token_id": 0,
    "decoder_start_token_id": START,
    "forced_eos_token_id": None,
}
LARGE = {"vocab_size": 30522, "d_model": 256, "encoder_layers": 4, "decoder_layers": 4, "encoder_ffn_dim": 1024}
SMALL = {"d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 128}
SMALL["vocab_size"] = WORDS + PLACES * WORDS_A_PLACE


def run(rounds: int, threads: int, clock: Callable[[], float], steps: int = 2000) -> str:
    """Return two tables: tokens a second, and texts after learning.

    Args:
        rounds: Turns of each contender.
        threads: Threads of this process.
        clock: What tells the time.
        steps: Batches of 32 to learn from.
    """
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    import torch

    torch.set_num_threads(threads)
    return f"{speed(rounds, clock)}\n\n{quality(steps)}"


def model_of(m: int | None, sizes: dict[str, Any]) -> Any:
    """Return a BART that predicts m tokens a step, or transformers' own for none; weights are equal but for that."""
    import torch
    from transformers import BartConfig, BartForConditionalGeneration

    from transformers_framework.models.multi_token import MultiTokenBartConfig, MultiTokenBartForConditionalGeneration

    torch.manual_seed(0)
    options = {**SIZES, **sizes, "decoder_ffn_dim": sizes["encoder_ffn_dim"]}
    if m is None:
        return BartForConditionalGeneration(BartConfig(**options)).eval()
    return MultiTokenBartForConditionalGeneration(MultiTokenBartConfig(**options, max_multi_token_predictions=m)).eval()


def speed(rounds: int, clock: Callable[[], float]) -> str:
    """Return a table of tokens a second."""
    import torch

    ids = torch.randint(4, LARGE["vocab_size"], (BATCH_SIZE, SOURCE), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)

    def timed(model: Any, beams: int) -> Callable[[], float]:
        model.generation_config.eos_token_id = None

        def rate() -> float:
            start = clock()
            found = model.generate(input_ids=ids, attention_mask=mask, num_beams=beams, max_new_tokens=TARGET)
            assert found.shape[1] == TARGET + 1
            return BATCH_SIZE * TARGET / (clock() - start)

        return rate

    rows = []
    for beams in (1, BEAMS):
        contenders = {PEER: timed(model_of(None, LARGE), beams)}
        contenders |= {f"m = {m}": timed(model_of(m, LARGE), beams) for m in PREDICTIONS}
        values = alternate(contenders, rounds)
        rows += [
            (name, beams, f"{median(values[name]):,.0f}", f"{median_ratio(values, name, PEER):.2f}") for name in values
        ]
    return table(("multi-token decoding", "beams", "tokens/s", "ratio"), rows)


def quality(steps: int) -> str:
    """Return a table of how right texts are."""
    from rouge_score.rouge_scorer import RougeScorer

    rows = []
    sources, targets = texts(256, seed=-1)
    scorer = RougeScorer(["rougeL"], tokenizer=_Words())
    for m in PREDICTIONS:
        model, loss = learned(m, steps)
        found = model.generate(
            input_ids=sources, attention_mask=(sources != PAD).long(), num_beams=BEAMS, max_length=targets.shape[1] + 2
        )
        pairs = [(_words(target), _words(text[1:])) for target, text in zip(targets, found, strict=True)]
        rouge = sum(scorer.score(target, text)["rougeL"].fmeasure for target, text in pairs) / len(pairs)
        exact = sum(target == text for target, text in pairs) / len(pairs)
        rows.append((f"m = {m}", f"{loss:.3f}", f"{100 * rouge:.1f}", f"{exact:.1%}"))
    return table((f"multi-token decoding, {steps} steps", "loss", "ROUGE-L", "exact texts"), rows)


def texts(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sources (B, 24) and targets (B, T), both int64: the even words of each source, the end, padding."""
    import torch

    draw = torch.Generator().manual_seed(seed + 1)
    words = torch.randint(WORDS_A_PLACE, (rows, PLACES), generator=draw)
    sources = WORDS + WORDS_A_PLACE * torch.arange(PLACES) + words
    chosen = [row[row % 2 == 0] for row in sources]
    targets = torch.nn.utils.rnn.pad_sequence(
        [torch.cat([row, row.new_tensor([EOS])]) for row in chosen], batch_first=True, padding_value=PAD
    )
    return sources, targets


def learned(m: int, steps: int) -> tuple[Any, float]:
    """Return a model that has learned for some steps, and its last losses' mean."""
    import torch

    model = model_of(m, {**SMALL, "dropout": 0.0}).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    losses = []
    for step in range(steps):
        sources, targets = texts(32, seed=step)
        loss = model(input_ids=sources, labels=targets.where(targets != PAD, -100)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return model.eval(), sum(losses[-50:]) / len(losses[-50:])


def _words(ids: torch.Tensor) -> str:
    """Return ids as a text, up to the end."""
    found = ids.tolist()
    return " ".join(map(str, found[: found.index(EOS)] if EOS in found else found))


class _Words:
    """What ROUGE takes for a tokenizer: words are between spaces."""

    def tokenize(self, text: str) -> list[str]:
        return text.split()
