"""A step of ELECTRA: ours beside steps that are composed of transformers' two models, on the same batches.

Model: BERT, hidden 256, 4 layers, and a generator of half the layers. All contenders run in one process, on batches
that are collated beforehand: forward, losses, backward, clipping, fused AdamW. The peers compute the vocabulary at
every position, as transformers' generator does; one samples at masked positions only, the other by Gumbel noise over
all logits, as the first public ports of ELECTRA do. They run with glibc's own
allocator, as the peers of all benchmarks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.material import BATCH_SIZE, MAX_LENGTH, Texts, environment
from benchmarks.rounds import alternate, last_json, median, median_ratio, table
from benchmarks.training import OWN_ALLOCATOR

STEPS, SKIPPED = 5, 2
OURS, PLAIN = "ours", "ours, allocator as the peers'"
AT_MASKS, EVERYWHERE = "two models, sampling at masks", "two models, Gumbel noise over all logits"
WEIGHT = 50.0


def run(texts: Texts, rounds: int, precision: str, threads: int) -> str:
    """Return a table of steps per second in one precision, of processes of their own."""
    words = [str(value) for value in (texts.running, texts.model, texts.scratch, precision)]

    def measure(name: str) -> Callable[[], float]:
        command = [sys.executable, "-m", "benchmarks.electra", name, *words]
        changes = {} if name == OURS else {OWN_ALLOCATOR: "1"}
        return lambda: last_json(command, environment(threads, **changes))["steps"]

    values = alternate({name: measure(name) for name in (OURS, PLAIN, AT_MASKS, EVERYWHERE)}, rounds)
    rows = [(name, f"{median(rates):.2f}", f"{median_ratio(values, OURS, name):.2f}") for name, rates in values.items()]
    return table((f"ELECTRA step, {precision}", "steps/s", "ours to it"), rows)


def command(running: str, model: str, scratch: str) -> list[str]:
    """Return the words of our run, of which only the parts are used here."""
    return [
        *("--pipeline", "token_detection_and_masked_lm", "--model", "bert", "--name", "electra"),
        *("--output_dir", f"{scratch}/outputs", "--cache_dir", f"{scratch}/cache", "--pre_trained_config", model),
        *("--train_dataset", running, "--input_columns", "text", "--packing", "full", "--accelerator", "cpu"),
        *("--batch_size", str(BATCH_SIZE), "--max_sequence_length", str(MAX_LENGTH), "--num_workers", "0"),
    ]


def main(name: str, running: str, model: str, scratch: str, precision: str) -> None:
    """Time one contender and write its steps per second."""
    import json

    import torch

    from benchmarks.parts import parts_of

    experiment, batches = parts_of(command(running, model, scratch), STEPS + SKIPPED)
    networks = experiment.module.model
    optimizer = torch.optim.AdamW(experiment.module.parameters(), lr=1e-4, fused=True)
    step = {OURS: _ours, PLAIN: _ours, AT_MASKS: _peer(at_masks=True), EVERYWHERE: _peer(at_masks=False)}[name]
    seconds = []
    for batch in batches:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = step(experiment.module, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(networks.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
    sys.stdout.write(json.dumps({"steps": 1 / median(seconds[SKIPPED:])}) + "\n")


def _ours(module: Any, batch: dict) -> Any:
    totals = module._stage_step(batch, "train").losses
    return sum(module.loss_weight(name) * total / batch["group_num_items"][name] for name, total in totals.items())


def _peer(*, at_masks: bool) -> Callable[[Any, dict], Any]:
    import torch
    from torch.nn import functional

    from benchmarks.parts import dense_labels

    def step(module: Any, batch: dict) -> Any:
        generator = module.model.generator.heads["masked_lm"]
        discriminator = module.model.discriminator.heads["token_detection"]
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask", "token_type_ids") if key in batch}
        labels = dense_labels(batch["masked_lm"], batch["input_ids"].shape)
        output = generator(**inputs, labels=labels)
        masked = labels != -100
        with torch.no_grad():
            logits = output.logits.detach().float()
            if at_masks:
                sampled = torch.multinomial(logits[masked].softmax(-1), 1)[:, 0]
            else:
                noise = -torch.log(-torch.log(torch.rand_like(logits).clamp(1e-9, 1 - 1e-7)))
                sampled = (logits + noise).argmax(-1)[masked]
            replaced = inputs["input_ids"].clone()
            replaced[masked] = sampled
            target = torch.zeros_like(replaced)
            target[masked] = (sampled != labels[masked]).long()
        scores = discriminator(**inputs | {"input_ids": replaced}).logits.squeeze(-1).float()
        attended = inputs["attention_mask"] > 0
        detection = functional.binary_cross_entropy_with_logits(scores[attended], target[attended].float())
        return output.loss + WEIGHT * detection

    return step


if __name__ == "__main__":
    main(*sys.argv[1:])
