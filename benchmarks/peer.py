"""The peer: a script around transformers' ``Trainer`` as its documentation has it, doing what our command does."""

from __future__ import annotations

import argparse
from pathlib import Path

from datasets import Dataset, load_dataset
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)


def shared_arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the flags that scripts around ``Trainer`` share."""
    parser = argparse.ArgumentParser(description=description)
    for flag in ("--data", "--model", "--scratch"):
        parser.add_argument(flag, type=Path, required=True)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--max_steps", type=int, default=-1)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--sampling", default="random", choices=["random", "group_by_length"])
    parser.add_argument("--clock", type=int, nargs=2, metavar=("SKIP", "STOP"), help="measure these steps")
    return parser


def load_rows(args: argparse.Namespace) -> Dataset:
    """Return the rows of the file that a script is given."""
    return load_dataset("json", data_files=str(args.data), split="train", cache_dir=str(args.scratch / "cache_of_peer"))


def train(args: argparse.Namespace, model, tokenizer, dataset: Dataset, collator, **options) -> None:
    """Train with ``Trainer``.

    Args:
        args: Flags of the script.
        model: Model with a head.
        tokenizer: Tokenizer of the model.
        dataset: Tokenized rows.
        collator: Makes batches.
        **options: More ``TrainingArguments``.
    """
    if args.sampling == "group_by_length":
        dataset = dataset.add_column("length", [len(ids) for ids in dataset["input_ids"]])
    arguments = TrainingArguments(
        output_dir=str(args.scratch / "outputs_of_peer"),
        per_device_train_batch_size=args.batch_size,
        max_steps=args.max_steps,
        learning_rate=5e-5,
        bf16=args.bf16,
        use_cpu=True,
        train_sampling_strategy=args.sampling,
        save_strategy="no",
        **options,
    )
    trainer = Trainer(
        model=model, args=arguments, train_dataset=dataset, data_collator=collator, processing_class=tokenizer
    )
    if args.clock:
        put_clock(trainer, *args.clock)
    trainer.train()


def main() -> None:
    parser = shared_arguments(__doc__)
    parser.add_argument("--logging_steps", type=int, default=500)
    args = parser.parse_args()

    set_seed(1337)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    config = AutoConfig.from_pretrained(args.model, num_labels=2)
    model = AutoModelForSequenceClassification.from_config(config)

    def tokenize(rows: dict) -> dict:
        return tokenizer(rows["question"], rows["answer"], truncation=True, max_length=args.max_length)

    dataset = load_rows(args).map(tokenize, batched=True)
    collator = DataCollatorWithPadding(tokenizer)
    train(args, model, tokenizer, dataset, collator, num_train_epochs=1, logging_steps=args.logging_steps)


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
