"""Flags of other trainers and their names here, for "Did you mean": similar spelling alone would be misleading."""

from __future__ import annotations

import re
from collections.abc import Container

# flags here, with a placeholder for their value -> their names in transformers' Trainer and example scripts, in
# Lightning, sentence-transformers and fairseq, and in earlier versions of this program
_NAMES = {
    "--max_epochs N": "epochs num_epochs num_train_epochs",
    "--max_steps N": "steps num_steps max_train_steps num_train_steps",
    "--limit_train_batches N": "max_train_samples",
    "--limit_val_batches N": "max_eval_samples",
    "--limit_predict_batches N": "max_predict_samples",
    "--val_check_interval BATCHES": "eval_steps evaluation_steps",
    "--val_check_interval BATCHES --check_val_every_n_epoch EPOCHS": "evaluation_strategy eval_strategy",
    "--checkpoint_interval STEPS": "save_steps checkpointing_steps save_strategy",
    "--log_every_n_steps STEPS": "logging_steps",
    "--early_stopping --patience N": "early_stopping_patience",
    "--monitor NAME": "metric_for_best_model load_best_model_at_end",
    "--monitor_direction max": "greater_is_better",
    "--resume --ckpt_path FILE": "resume_from_checkpoint",
    "--ckpt_path FILE": "checkpoint checkpoint_path",
    "--overwrite": "overwrite_output_dir",
    "--name RUN": "run_name",
    "--output_dir FOLDER": "logging_dir report_to output out_dir",
    "--learning_rate RATE": "lr",
    "--weight_decay RATE": "wd",
    "--num_warmup_steps STEPS": "warmup warmup_steps warmup_ratio",
    "--scheduler NAME": "lr_scheduler lr_scheduler_type",
    "--optimizer NAME": "optim",
    "--adamw_betas BETA1 BETA2": "adam_beta1 adam_beta2 adam_betas",
    "--adamw_epsilon EPSILON": "adam_epsilon",
    "--optimizer adafactor": "adafactor",
    "--accumulate_grad_batches N": "gradient_accumulation_steps",
    "--gradient_clip_val NORM": "max_grad_norm clip_norm",
    "--label_smoothing SHARE": "label_smoothing_factor",
    "--batch_size ROWS": "per_device_train_batch_size per_gpu_train_batch_size train_batch_size auto_find_batch_size",
    "--eval_batch_size ROWS": "per_device_eval_batch_size per_gpu_eval_batch_size",
    "--train_dataset NAME/SPLIT": "dataset dataset_name",
    "--train_config NAME": "dataset_config_name",
    "--train_dataset FILE": "train_file train_data do_train",
    "--valid_dataset FILE": "validation_file val_dataset eval_file eval_dataset do_eval",
    "--test_dataset FILE": "test_file do_test",
    "--predict_dataset FILE": "predict_file do_predict",
    "--input_columns COLUMN": "text_column text_column_name text_columns",
    "--label_column COLUMN": "label_column_name",
    "--packing none": "line_by_line",
    "--iterable": "streaming",
    "--length_bucketing": "group_by_length",
    "--num_workers N": "dataloader_num_workers",
    "--disable_memory_pinning": "dataloader_pin_memory",
    "--prepare_data_workers N": "preprocessing_num_workers",
    "--prepare_data_do_not_use_cache": "overwrite_cache",
    "--cache_dir FOLDER": "temporary_data_folder",
    "--max_sequence_length TOKENS": "max_seq_length max_seq_len max_length block_size model_max_length",
    "--max_sequence_length SOURCE TARGET": "max_source_length max_target_length",
    "--prefix TEXT": "source_prefix",
    "--probability SHARE": "mlm_probability",
    "--reload_dataloaders_every_n_epochs 1": "reload_train_dataset_every_epoch reload_valid_dataset_every_epoch "
    "reload_test_dataset_every_epoch reload_predict_dataset_every_epoch",
    "--pre_trained_model NAME": "model_name model_name_or_path pretrained_model_name_or_path pre_trained_name",
    "--model FAMILY": "model_type arch",
    "--pre_trained_tokenizer NAME": "tokenizer tokenizer_name",
    "--pre_trained_config NAME": "config_name",
    "--additional_config_kwargs KEY=VALUE": "config_overrides",
    "--attention NAME": "attn_implementation",
    "--compile": "torch_compile",
    "--pipeline NAME": "task task_name",
    "--accelerator gpu --devices N": "gpus num_gpus n_gpu",
    "--devices N": "num_processes local_rank",
    "--num_nodes N": "nnodes num_machines",
    "--accelerator cpu": "no_cuda use_cpu cpu",
    "--precision 16-mixed": "fp16 amp",
    "--precision bf16-mixed": "bf16 mixed_precision",
    "--float32_matmul_precision high": "tf32",
    "--strategy deepspeed_stage_2": "deepspeed",
    "--strategy fsdp": "fsdp",
    "--strategy ddp": "ddp",
    "--seed N": "random_seed",
    "--deterministic": "full_determinism",
    "--check": "dry_run",
}
# arguments of generation that have no flag of their own
_GENERATION = """
    assistant_confidence_threshold assistant_early_exit assistant_ensemble_weight assistant_lookbehind
    disable_compile guidance_scale is_assistant max_cache_len max_matching_ngram_size num_assistant_tokens
    num_assistant_tokens_schedule output_attentions output_hidden_states output_logits speculation_type
    target_lookbehind token_healing top_h
"""

# flags of earlier versions, whose config.yaml files name all of them, most without a value
FORMER: dict[str, str] = {
    f"generation_{name}": f"--additional_generation_kwargs {name}=VALUE" for name in _GENERATION.split()
}

SYNONYMS: dict[str, str] = {name: flags for flags, names in _NAMES.items() for name in names.split()} | FORMER

# explanations, where the flags alone are not enough
REASONS: dict[str, str] = {
    **dict.fromkeys(
        ("do_train", "do_eval", "do_test", "do_predict"),
        "A stage runs when it has a data set; no other flag is needed.",
    ),
    **dict.fromkeys(("load_best_model_at_end", "metric_for_best_model"), "The best checkpoint is tested and exported."),
    **dict.fromkeys(("evaluation_strategy", "eval_strategy"), "By default, there is a validation after each epoch."),
    **dict.fromkeys(("max_train_samples", "max_eval_samples", "max_predict_samples"), "N counts batches."),
    "warmup_ratio": "It counts optimizer steps.",
    "resume_from_checkpoint": "The first continues the run with this --name, the second continues from any checkpoint.",
    "report_to": "TensorBoard's files are written to its folder 'tensorboard'; for other loggers see --loggers.",
    "local_rank": "The command starts one process per device.",
    "dataloader_pin_memory": "Memory is pinned by default.",
}

_FLAG = re.compile(r"--(\w+)(?: ((?:(?!--)\S+ ?)+))?")


def flags_in(text: str) -> dict[str, str]:
    """Return the flags of a line, each with its values.

    Examples:
        >>> flags_in("--early_stopping --adamw_betas BETA1 BETA2")
        {'early_stopping': '', 'adamw_betas': 'BETA1 BETA2'}
    """
    return {name: words.strip() for name, words in _FLAG.findall(text)}


def called_here(name: str, known: Container[str], *, in_file: bool = False) -> str:
    """Return a sentence with the name of a flag of another program here, or an empty string.

    Args:
        name: The flag, without dashes.
        known: The flags of the run.
        in_file: Whether it is in a YAML file.

    Examples:
        >>> called_here("gpus", ["accelerator", "devices"]), called_here("lr", ["learning_rate"], in_file=True)
        (" Did you mean '--accelerator gpu --devices N'?", " Did you mean 'learning_rate: RATE'?")
    """
    name = name.lower()
    line = SYNONYMS.get(name, "")
    flags = {flag: words for flag, words in flags_in(line).items() if flag in known}
    if not flags:
        return ""
    if in_file:
        line = ", ".join(f"{flag}: {words or 'true'}" for flag, words in flags.items())
    return f" Did you mean '{line}'?{' ' * (name in REASONS)}{REASONS.get(name, '')}"
