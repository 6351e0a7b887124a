"""The peer of pre-training: the recipe of transformers' ``run_mlm.py`` around its ``Trainer``."""

from __future__ import annotations

import argparse
from itertools import chain
from pathlib import Path

from datasets import load_dataset
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
    set_seed,
)

from benchmarks.peer import put_clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--data", "--model", "--scratch"):
        parser.add_argument(flag, type=Path, required=True)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--line_by_line", action="store_true", help="a row a line; else full windows")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--sampling", default="random", choices=["random", "group_by_length"])
    parser.add_argument("--clock", type=int, nargs=2, metavar=("SKIP", "STOP"), required=True)
    args = parser.parse_args()

    set_seed(1337)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(args.model))
    dataset = load_dataset(
        "json", data_files=str(args.data), split="train", cache_dir=str(args.scratch / "cache_of_peer")
    )

    def tokenize(rows: dict) -> dict:
        truncation = {"truncation": True, "max_length": args.max_length} if args.line_by_line else {}
        return tokenizer(rows["text"], return_special_tokens_mask=True, **truncation)

    def group(rows: dict) -> dict:
        joined = {key: list(chain(*rows[key])) for key in rows}
        total = len(joined["input_ids"]) // args.max_length * args.max_length
        return {
            key: [values[start : start + args.max_length] for start in range(0, total, args.max_length)]
            for key, values in joined.items()
        }

    dataset = dataset.map(tokenize, batched=True, remove_columns=dataset.column_names)
    if not args.line_by_line:
        dataset = dataset.map(group, batched=True)
    elif args.sampling == "group_by_length":
        dataset = dataset.add_column("length", [len(ids) for ids in dataset["input_ids"]])
    arguments = TrainingArguments(
        output_dir=str(args.scratch / "outputs_of_peer"),
        per_device_train_batch_size=args.batch_size,
        max_steps=args.clock[1],
        learning_rate=5e-5,
        bf16=args.bf16,
        use_cpu=True,
        train_sampling_strategy=args.sampling,
        save_strategy="no",
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
        processing_class=tokenizer,
    )
    put_clock(trainer, *args.clock)
    trainer.train()


if __name__ == "__main__":
    main()
