"""What users of other trainers type, and what it is called here: similar spelling alone would mislead them."""

from __future__ import annotations

import re
from collections.abc import Container

# names in transformers' Trainer and its example scripts, in Lightning's, sentence-transformers' and fairseq's, and in
# earlier versions of this program -> flags of this one, with a hint of what their values are
SYNONYMS: dict[str, str] = {
    # length of the training, evaluation, checkpoints
    "epochs": "--max_epochs N",
    "num_epochs": "--max_epochs N",
    "num_train_epochs": "--max_epochs N",
    "steps": "--max_steps N",
    "num_steps": "--max_steps N",
    "max_train_steps": "--max_steps N",
    "num_train_steps": "--max_steps N",
    "max_train_samples": "--limit_train_batches N",
    "max_eval_samples": "--limit_val_batches N",
    "max_predict_samples": "--limit_predict_batches N",
    "eval_steps": "--val_check_interval BATCHES",
    "evaluation_steps": "--val_check_interval BATCHES",
    "evaluation_strategy": "--val_check_interval BATCHES --check_val_every_n_epoch EPOCHS",
    "eval_strategy": "--val_check_interval BATCHES --check_val_every_n_epoch EPOCHS",
    "save_steps": "--checkpoint_interval STEPS",
    "checkpointing_steps": "--checkpoint_interval STEPS",
    "save_strategy": "--checkpoint_interval STEPS",
    "logging_steps": "--log_every_n_steps STEPS",
    "early_stopping_patience": "--early_stopping --patience N",
    "metric_for_best_model": "--monitor NAME",
    "greater_is_better": "--monitor_direction max",
    "load_best_model_at_end": "--monitor NAME",
    "resume_from_checkpoint": "--resume --ckpt_path FILE",
    "checkpoint": "--ckpt_path FILE",
    "checkpoint_path": "--ckpt_path FILE",
    "overwrite_output_dir": "--overwrite",
    "run_name": "--name RUN",
    "logging_dir": "--output_dir FOLDER",
    "report_to": "--output_dir FOLDER",
    # optimization
    "lr": "--learning_rate RATE",
    "wd": "--weight_decay RATE",
    "warmup": "--num_warmup_steps STEPS",
    "warmup_steps": "--num_warmup_steps STEPS",
    "warmup_ratio": "--num_warmup_steps STEPS",
    "lr_scheduler": "--scheduler NAME",
    "lr_scheduler_type": "--scheduler NAME",
    "optim": "--optimizer NAME",
    "adam_beta1": "--adamw_betas BETA1 BETA2",
    "adam_beta2": "--adamw_betas BETA1 BETA2",
    "adam_betas": "--adamw_betas BETA1 BETA2",
    "adam_epsilon": "--adamw_epsilon EPSILON",
    "adafactor": "--optimizer adafactor",
    "gradient_accumulation_steps": "--accumulate_grad_batches N",
    "max_grad_norm": "--gradient_clip_val NORM",
    "clip_norm": "--gradient_clip_val NORM",
    "label_smoothing_factor": "--label_smoothing SHARE",
    # data
    "per_device_train_batch_size": "--batch_size ROWS",
    "per_device_eval_batch_size": "--eval_batch_size ROWS",
    "per_gpu_train_batch_size": "--batch_size ROWS",
    "per_gpu_eval_batch_size": "--eval_batch_size ROWS",
    "train_batch_size": "--batch_size ROWS",
    "bs": "--batch_size ROWS",
    "auto_find_batch_size": "--batch_size ROWS",
    "dataset": "--train_dataset NAME/SPLIT",
    "dataset_name": "--train_dataset NAME/SPLIT",
    "dataset_config_name": "--train_config NAME",
    "train_file": "--train_dataset FILE",
    "train_data": "--train_dataset FILE",
    "validation_file": "--valid_dataset FILE",
    "val_dataset": "--valid_dataset FILE",
    "eval_file": "--valid_dataset FILE",
    "eval_dataset": "--valid_dataset FILE",
    "test_file": "--test_dataset FILE",
    "predict_file": "--predict_dataset FILE",
    "do_train": "--train_dataset FILE",
    "do_eval": "--valid_dataset FILE",
    "do_predict": "--predict_dataset FILE",
    "do_test": "--test_dataset FILE",
    "text_column": "--input_columns COLUMN",
    "text_column_name": "--input_columns COLUMN",
    "text_columns": "--input_columns COLUMN",
    "label_column_name": "--label_column COLUMN",
    "line_by_line": "--packing none",
    "streaming": "--iterable",
    "group_by_length": "--length_bucketing",
    "dataloader_num_workers": "--num_workers N",
    "dataloader_pin_memory": "--disable_memory_pinning",
    "preprocessing_num_workers": "--prepare_data_workers N",
    "overwrite_cache": "--prepare_data_do_not_use_cache",
    "temporary_data_folder": "--cache_dir FOLDER",
    "max_seq_length": "--max_sequence_length TOKENS",
    "max_seq_len": "--max_sequence_length TOKENS",
    "max_length": "--max_sequence_length TOKENS",
    "block_size": "--max_sequence_length TOKENS",
    "model_max_length": "--max_sequence_length TOKENS",
    "max_source_length": "--max_sequence_length SOURCE TARGET",
    "max_target_length": "--max_sequence_length SOURCE TARGET",
    "source_prefix": "--prefix TEXT",
    "mlm_probability": "--probability SHARE",
    **{
        f"reload_{stage}_dataset_every_epoch": "--reload_dataloaders_every_n_epochs 1"
        for stage in ("train", "valid", "test", "predict")
    },
    # models
    "model_name": "--pre_trained_model NAME",
    "model_name_or_path": "--pre_trained_model NAME",
    "pretrained_model_name_or_path": "--pre_trained_model NAME",
    "pre_trained_name": "--pre_trained_model NAME",
    "pretrained": "--pre_trained_model NAME",
    "model_type": "--model FAMILY",
    "arch": "--model FAMILY",
    "tokenizer": "--pre_trained_tokenizer NAME",
    "tokenizer_name": "--pre_trained_tokenizer NAME",
    "config_name": "--pre_trained_config NAME",
    "config_overrides": "--additional_config_kwargs KEY=VALUE",
    **{
        f"generation_{name}": f"--additional_generation_kwargs {name}=VALUE"
        for name in (
            "assistant_confidence_threshold",
            "assistant_early_exit",
            "assistant_ensemble_weight",
            "assistant_lookbehind",
            "disable_compile",
            "guidance_scale",
            "is_assistant",
            "max_cache_len",
            "max_matching_ngram_size",
            "num_assistant_tokens",
            "num_assistant_tokens_schedule",
            "output_attentions",
            "output_hidden_states",
            "output_logits",
            "speculation_type",
            "target_lookbehind",
            "token_healing",
            "top_h",
        )
    },
    "attn_implementation": "--attention NAME",
    "torch_compile": "--compile",
    "task": "--pipeline NAME",
    "task_name": "--pipeline NAME",
    # devices
    "gpus": "--accelerator gpu --devices N",
    "num_gpus": "--accelerator gpu --devices N",
    "n_gpu": "--accelerator gpu --devices N",
    "num_processes": "--devices N",
    "nnodes": "--num_nodes N",
    "num_machines": "--num_nodes N",
    "no_cuda": "--accelerator cpu",
    "use_cpu": "--accelerator cpu",
    "cpu": "--accelerator cpu",
    "fp16": "--precision 16-mixed",
    "bf16": "--precision bf16-mixed",
    "mixed_precision": "--precision bf16-mixed",
    "amp": "--precision 16-mixed",
    "tf32": "--float32_matmul_precision high",
    "deepspeed": "--strategy deepspeed_stage_2",
    "fsdp": "--strategy fsdp",
    "ddp": "--strategy ddp",
    "local_rank": "--devices N",
    "random_seed": "--seed N",
    "full_determinism": "--deterministic",
    "output": "--output_dir FOLDER",
    "out_dir": "--output_dir FOLDER",
    "dry_run": "--check",
}

# where the flags alone leave a question
REASONS: dict[str, str] = {
    **dict.fromkeys(
        ("do_train", "do_eval", "do_test", "do_predict"),
        "A stage runs when it has a data set; no other flag is needed.",
    ),
    **dict.fromkeys(("load_best_model_at_end", "metric_for_best_model"), "The best checkpoint is tested and exported."),
    **dict.fromkeys(("evaluation_strategy", "eval_strategy"), "Without both, each epoch is followed by a validation."),
    **dict.fromkeys(("max_train_samples", "max_eval_samples", "max_predict_samples"), "N counts batches."),
    "warmup_ratio": "It counts optimizer steps.",
    "resume_from_checkpoint": "The first continues the run of this --name, the second starts from any checkpoint.",
    "report_to": "TensorBoard's files are always written, in the folder 'tensorboard' there.",
    "local_rank": "Processes are started by the program itself.",
    "dataloader_pin_memory": "Memory is pinned without it.",
}

_FLAG = re.compile(r"--(\w+)(?: ((?:(?!--)\S+ ?)+))?")


def flags_in(text: str) -> dict[str, str]:
    """Return the flags of a line, each with its words.

    Examples:
        >>> flags_in("--early_stopping --adamw_betas BETA1 BETA2")
        {'early_stopping': '', 'adamw_betas': 'BETA1 BETA2'}
    """
    return {name: words.strip() for name, words in _FLAG.findall(text)}


def called_here(name: str, known: Container[str], *, in_file: bool = False) -> str:
    """Return a sentence that says what a flag of another program is called here, or an empty string.

    Args:
        name: The flag, without dashes.
        known: The flags that there are.
        in_file: Whether it stands in a YAML file.

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
