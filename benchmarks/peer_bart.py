"""The peer of a step of BART: transformers' model with its own loss: ``MODEL BATCHES 32|bf16``."""

from __future__ import annotations

import sys

import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from benchmarks.seq_to_seq import timed_steps


def main(model_folder: str, file: str, precision: str) -> None:
    model = AutoModelForSeq2SeqLM.from_config(AutoConfig.from_pretrained(model_folder)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=True)

    def step(batch: dict) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    timed_steps(step, torch.load(file))


if __name__ == "__main__":
    main(*sys.argv[1:])
