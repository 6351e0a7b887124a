"""The peer: a script around transformers' ``Trainer`` as its documentation has it, doing what our command does."""

from __future__ import annotations

import argparse
from pathlib import Path

from datasets import load_dataset
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--data", "--model", "--scratch"):
        parser.add_argument(flag, type=Path, required=True)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--max_steps", type=int, default=-1)
    parser.add_argument("--logging_steps", type=int, default=500)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--sampling", default="random", choices=["random", "group_by_length"])
    parser.add_argument("--clock", type=int, nargs=2, metavar=("SKIP", "STOP"), help="measure these steps")
    args = parser.parse_args()

    set_seed(1337)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    config = AutoConfig.from_pretrained(args.model, num_labels=2)
    model = AutoModelForSequenceClassification.from_config(config)
    dataset = load_dataset(
        "json", data_files=str(args.data), split="train", cache_dir=str(args.scratch / "cache_of_peer")
    )

    def tokenize(rows: dict) -> dict:
        return tokenizer(rows["question"], rows["answer"], truncation=True, max_length=args.max_length)

    dataset = dataset.map(tokenize, batched=True)
    if args.sampling == "group_by_length":
        dataset = dataset.add_column("length", [len(ids) for ids in dataset["input_ids"]])
    arguments = TrainingArguments(
        output_dir=str(args.scratch / "outputs_of_peer"),
        per_device_train_batch_size=args.batch_size,
        num_train_epochs=1,
        max_steps=args.max_steps,
        learning_rate=5e-5,
        bf16=args.bf16,
        use_cpu=True,
        train_sampling_strategy=args.sampling,
        logging_steps=args.logging_steps,
        save_strategy="no",
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )
    if args.clock:
        put_clock(trainer, *args.clock)
    trainer.train()


def put_clock(trainer: Trainer, skip: int, stop: int) -> None:
    """Measure some steps of a trainer."""
    from transformers import TrainerCallback

    from benchmarks.clock import Clock

    clock, training_step = Clock(skip, stop), trainer.training_step

    class ClockCallback(TrainerCallback):
        def on_step_end(self, *args, **kwargs) -> None:
            clock.end_of_step()

    def counted_step(model, inputs, *args, **kwargs):
        clock.count(inputs["attention_mask"])
        return training_step(model, inputs, *args, **kwargs)

    trainer.training_step = counted_step
    trainer.add_callback(ClockCallback())


if __name__ == "__main__":
    main()
