"""The peer of pre-training: the recipe of transformers' ``run_mlm.py`` around its ``Trainer``."""

from __future__ import annotations

from itertools import chain

from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer, DataCollatorForLanguageModeling, set_seed

from benchmarks.peer import load_rows, shared_arguments, train


def main() -> None:
    parser = shared_arguments(__doc__)
    parser.add_argument("--line_by_line", action="store_true", help="a row a line; else full windows")
    args = parser.parse_args()

    set_seed(1337)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(args.model))
    dataset = load_rows(args)

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
    train(args, model, tokenizer, dataset, DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15))


if __name__ == "__main__":
    main()
