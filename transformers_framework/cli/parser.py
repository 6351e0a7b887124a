"""The flags of a run by group, and their values."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from transformers_framework.cli.config_files import to_yaml
from transformers_framework.cli.flags import Flag, flags_of, merge
from transformers_framework.cli.given import ALIASES, PREFIX, Given, dashed
from transformers_framework.cli.synonyms import FORMER, called_here
from transformers_framework.cli.values import describe
from transformers_framework.constants import AUTO, REPLACED_BY
from transformers_framework.exceptions import ConfigurationError, UserError, did_you_mean
from transformers_framework.objectives.capabilities import default_weight
from transformers_framework.registry import (
    LOGGERS,
    MODELS,
    OPTIMIZERS,
    PIPELINES,
    RUN_CALLBACKS,
    SCHEDULERS,
    PipelineSpec,
    lookup,
    pipeline_spec,
    resolve,
)
from transformers_framework.restricted import (
    Duration,
    LocalPath,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    Probability,
    Range,
)
from transformers_framework.runtime.steps import DEFAULT_EPOCHS
from transformers_framework.strategies.build import refusal

Groups = dict[str, dict[str, Flag]]

OPTIMIZATION = "pipelines.pipeline:Pipeline"
# tables of names, each with the flag that chooses a row
TABLES: dict[str, Mapping[str, Any]] = {
    "pipeline": PIPELINES,
    "model": MODELS,
    "optimizer": OPTIMIZERS,
    "scheduler": SCHEDULERS,
}

# arguments of the Trainer that are objects, or that the framework sets
NOT_OF_THE_TRAINER = {
    "logger": "TensorBoard's files are in the folder 'tensorboard' of --output_dir; for others see --loggers",
    "callbacks": "see --callbacks",
    "plugins": "see --precision and --strategy",
    "default_root_dir": "see --output_dir",
    "model_registry": "models are written to the folder 'pre_trained_models' of --output_dir",
}

ABSENT = {"none", "null", "false", "no", "off"}  # values that mean that a flag is not set
WEIGHT = "_weight"  # suffix of the flags for each objective of a multi-task pipeline
# the valid numbers, where Lightning accepts any
UNLIMITED = Annotated[int, Range(ge=-1)]
SHARE = NonNegativeInt | Probability | None


@dataclass(frozen=True, kw_only=True)
class Command:
    """Flags that select what the command does with a run.

    Args:
        config: YAML file with flags, one 'flag: value' per line. If it is given several times, later files override
            earlier ones, and the command line overrides all. A file can include others with the key 'config' (paths
            relative to its folder), and overrides them.
        print_config: Print the values of all flags as YAML for --config, and exit; required flags may be missing.
            Options, separated by commas: comments adds the help of each flag, skip_null omits flags without a value,
            skip_default omits flags with their default value.
        default_env: Also read flags from environment variables: TRANSFORMERS_FRAMEWORK_BATCH_SIZE sets --batch_size.
            Config files and the command line override them.
        print_completion: Print a completion script for this shell, and exit.
        check: Check everything that can be known before training, report all problems at once, and exit.
        preview: Print this number of rows as the model reads them, with marks for what is masked, replaced or to be
            predicted, and exit. Problems are reported as with --check, except that the name of the run may be taken;
            with both flags, the report of --check comes first.
        seeds: Start a run NAME-seed1 … for each of these seeds, one after the other, then print the mean and standard
            deviation of each metric. Finished runs are skipped if the command is repeated.
        sweep: YAML file with a list of values for each flag to vary, 'learning_rate: [1e-5, 3e-5]' per line. Start a
            run for each combination, or for a random sample, and print them sorted by the monitored metric.
        debug: Show the traceback of an error.
        help: Show this help, and exit. With 'all' it explains the flags of the Trainer too, with another word only
            flags that have it in their name or help.
        version: Show the versions of the framework and of its main libraries, and exit.
    """

    config: str | None = None
    print_config: bool | str = False
    default_env: bool = False
    print_completion: Literal["bash", "zsh", "tcsh"] | None = None
    check: bool = False
    preview: PositiveInt | None = None
    seeds: list[NonNegativeInt] | None = None
    sweep: LocalPath | None = None
    debug: bool = False
    help: bool | str = False
    version: bool = False


def select(given: Mapping[str, Given]) -> dict[str, str]:
    """Return the rows of the tables and the variants of the pipeline that the user chose; imports nothing heavy.

    Raises:
        ConfigurationError: When a table has no such row.
    """
    chosen = {}
    for flag, table in TABLES.items():
        if flag in given:
            words = given[flag].words
            if len(words) != 1 or not words[0]:
                raise ConfigurationError(f"{given[flag].place}: expected one name of {', '.join(sorted(table))}.")
            pipeline_spec(words[0]) if flag == "pipeline" else lookup(table, words[0], flag)
            chosen[flag] = words[0]
    if "loggers" in given:
        names = [str(word) for word in given["loggers"].words]
        assert all(lookup(LOGGERS, name, "loggers") for name in names)
        chosen["loggers"] = " ".join(names)
    for flag in pipeline_spec(chosen["pipeline"]).variants if "pipeline" in chosen else ():
        if flag in given and (len(words := given[flag].words) != 1 or str(words[0]).lower() not in ABSENT):
            chosen[flag] = str(given[flag].words)
    return chosen


def groups_of(chosen: Mapping[str, str]) -> Groups:
    """Return all flags of a run by group.

    Args:
        chosen: What :func:`select` returned, with a pipeline.
    """
    spec = pipeline_spec(chosen["pipeline"], chosen)
    optimization = merge(declared(OPTIMIZATION).values())
    for name in ("optimizer", "scheduler"):
        table, flag = TABLES[name], optimization[name]
        optimization[name] = replace(flag, hint=Literal[tuple(table)])
        optimization = merge([*optimization.values(), *declared(table[chosen.get(name, flag.default)]).values()])
    pipeline = declared(*spec.flag_owners) | weight_flags(spec)
    loggers = [LOGGERS[name] for name in chosen.get("loggers", "").split()]
    added = (
        "plugins:import_packages",
        "metrics.added:added_metrics",
        "callbacks.user_callbacks:user_callbacks",
        "loggers.build:build_loggers",
        *RUN_CALLBACKS,
    )
    trainer = merge(
        [
            *trainer_flags(),
            *declared("data.limits:Limits", "runtime.precision:set_float32_matmul_precision").values(),
        ]
    )
    length = {name: trainer.pop(name) for name in ("max_epochs", "max_steps")}
    length["max_epochs"] = _with_default_length(length["max_epochs"], pre_trains=spec.pre_trains)
    length["max_steps"] = replace(length["max_steps"], help="Number of optimizer steps, -1 for no limit.")
    groups = {
        "run": declared("cli.parser:Command", "experiment:Experiment", *added, *loggers),
        "model": declared("models.auto:load_config", "models.tokenizers:load_tokenizer", spec.model),
        "data": declared(
            "data.datamodule:DataModule",
            "runtime.accumulation:accumulated_batches",
            "data.preparation:Preparation",
            "sources.data_files:FileOptions",
        ),
        f"pipeline {chosen['pipeline']}": {name: flag for name, flag in pipeline.items() if name not in optimization},
        "optimization": length | optimization,
        "selection": declared("callbacks.selection:Selection"),
        "trainer": trainer,
    }
    every = merge(flag for flags in groups.values() for flag in flags.values())
    every["max_sequence_length"] = _with_auto(every["max_sequence_length"])
    return {title: {name: every.pop(name) for name in flags if name in every} for title, flags in groups.items()}


def _with_default_length(flag: Flag, *, pre_trains: bool) -> Flag:
    """Return ``--max_epochs`` with the default of a pipeline in its help."""
    meaning = "Number of epochs, -1 for no limit."
    if pre_trains:
        return replace(flag, help=f"{meaning} Pre-training needs it, --max_steps or --max_time: there is no default.")
    shown = f"{DEFAULT_EPOCHS}, unless --max_steps or --max_time is given"
    return replace(flag, help=meaning, shown_default=shown)


def _with_auto(flag: Flag) -> Flag:
    """Return a flag that the program always has, with the default ``auto``: the model decides on its value."""
    return replace(flag, hint=Literal["auto"] | flag.hint, default=AUTO)


def every_flag() -> Groups:
    """Return the flags of all runs; of flags that differ between pipelines, the first."""
    runs = [
        *({"pipeline": name, flag: "1"} for name, spec in PIPELINES.items() for flag in ("seed", *spec.variants)),
        *({"pipeline": next(iter(PIPELINES)), "optimizer": name} for name in OPTIMIZERS),
        *({"pipeline": next(iter(PIPELINES)), "scheduler": name} for name in SCHEDULERS),
        *({"pipeline": next(iter(PIPELINES)), "loggers": name} for name in LOGGERS),
    ]
    every: dict[str, Flag] = {}
    for chosen in runs:
        with contextlib.suppress(ImportError, UserError):  # an optional package is absent
            for flags in groups_of(chosen).values():
                every = {**flags, **every}
    every |= {name: replace(every[name], hint=Literal[tuple(TABLES[name])]) for name in ("pipeline", "model")}
    return {"every run": every}


def weight_flags(spec: PipelineSpec) -> dict[str, Flag]:
    """Return ``--{objective}_weight`` for each objective of a multi-task pipeline."""
    objectives = [resolve(path) for path in spec.objectives]
    flags = []
    for o in objectives:
        meaning = f"Weight of the loss of {o.name} in the sum."
        flags.append(Flag(f"{o.name}{WEIGHT}", NonNegativeFloat, default_weight(o), meaning, ""))
    return {flag.name: flag for flag in flags} if len(flags) > 1 else {}


def declared(*paths: str) -> dict[str, Flag]:
    """Return the flags that classes and functions declare, by their import paths."""
    targets = [resolve(path) for path in paths]
    for path, target in zip(paths, targets, strict=True):
        if not callable(target):
            raise ConfigurationError(f"{path}: found {target!r}, expected a class or a function.")
    return merge(flag for target in targets for flag in flags_of(target))


def trainer_flags() -> list[Flag]:
    """Return the flags of Lightning's Trainer: its own names, defaults and helps, with types that words can express."""
    import pytorch_lightning as pl
    from pytorch_lightning.accelerators import AcceleratorRegistry

    from transformers_framework.strategies.build import names

    accelerators = ("auto", "gpu", *sorted(AcceleratorRegistry.available_accelerators()))
    return flags_of(
        pl.Trainer,
        exclude=NOT_OF_THE_TRAINER,
        hints={
            "accelerator": Literal[accelerators],
            "strategy": Literal[names()],
            "max_time": Duration | None,
            "val_check_interval": PositiveInt | Annotated[float, Range(above=0, le=1)] | Duration | None,
            "gradient_clip_algorithm": Literal["norm", "value"] | None,
            "gradient_clip_val": NonNegativeFloat | None,
            **dict.fromkeys(("max_epochs", "min_epochs", "min_steps", "num_sanity_val_steps"), UNLIMITED | None),
            "max_steps": UNLIMITED,
            **dict.fromkeys(("accumulate_grad_batches", "num_nodes"), PositiveInt),
            "check_val_every_n_epoch": PositiveInt | None,
            "log_every_n_steps": NonNegativeInt | None,
            "reload_dataloaders_every_n_epochs": NonNegativeInt,
            "fast_dev_run": NonNegativeInt | bool,
            **{f"limit_{stage}_batches": SHARE for stage in ("train", "val", "test", "predict")},
            "overfit_batches": NonNegativeInt | Probability,
        },
    )


def parse(given: Mapping[str, Given], groups: Groups) -> tuple[dict[str, Any], Command]:
    """Return the value of every flag of the run, and the flags of the command.

    Raises:
        ConfigurationError: Lists all problems at once: unknown flags, invalid values, missing flags.
    """
    options = values_of(given, groups)
    command = Command(**{flag.name: options.pop(flag.name) for flag in flags_of(Command)})
    return options, command


def values_of(given: Mapping[str, Given], groups: Groups) -> dict[str, Any]:
    """Return the value of every flag.

    Raises:
        ConfigurationError: Lists all problems at once: unknown flags, invalid values, missing flags.
    """
    from transformers_framework.cli.arguments import Arguments

    arguments = Arguments(groups)
    values, problems = {}, []
    for name, words in given.items():
        if name not in arguments.flags:
            is_former = name in FORMER and called_here(name, arguments.flags)
            if not is_former or words.words != (None,):  # a config.yaml of an earlier version has it
                problems.append(unknown(name, words.place, arguments.flags))
            continue
        if name == "strategy" and len(words.words) == 1 and (reason := refusal(words.words[0])):
            problems.append(f"{words.place} {words.words[0]}: {reason}.")
            continue
        try:
            values[name] = arguments.read(name, words)
        except ConfigurationError as error:
            problems.append(str(error))
    missing = [flag.dashed for name, flag in arguments.flags.items() if flag.is_required and name not in given]
    if missing and "print_config" not in given:
        problems.append(f"Missing: {', '.join(missing)}. Add --help to read what they mean.")
    for name, other in REPLACED_BY.items():
        if values.get(name) is not None and other in values:
            problems.append(f"{given[name].place} replaces {given[other].place}: give one of the two flags.")
    if problems:
        raise ConfigurationError("\n".join(problems))
    return {
        name: values.get(name, None if flag.is_required else flag.default) for name, flag in arguments.flags.items()
    }


def unknown(name: str, place: str, flags: Mapping[str, Flag]) -> str:
    """Return the error message for an unknown flag: a similar flag, or the table row that has it."""
    if name in NOT_OF_THE_TRAINER:
        return f"{place}: this argument of the Trainer is not a flag: {NOT_OF_THE_TRAINER[name]}."
    owners = [f"--{choice} {row}" for choice, row in _owners(name)]
    if owners:
        return f"{place}: this run has no such flag; it belongs to {', '.join(owners)}."
    if synonym := called_here(name, flags, in_file=not place.startswith("-")):
        if place.startswith(PREFIX):
            synonym = re.sub(r"(\w+): ", lambda flag: f"{PREFIX}{flag[1].upper()}=", synonym)
        return f"{place}: unknown flag.{synonym}"
    known = [_spelled_as(place, flag) for flag in (*flags, *ALIASES)]
    return f"{place}: unknown flag." + did_you_mean(_spelled_as(place, name), known)


def _spelled_as(place: str, name: str) -> str:
    """Return a flag in the spelling of its source: the command line, the environment or a file."""
    if place.startswith("-"):
        return f"--{name}"
    return PREFIX + name.upper() if place.startswith(PREFIX) else name


def _owners(name: str) -> list[tuple[str, str]]:
    """Return the table rows that declare a flag, as (flag, row)."""
    paths: dict[tuple[str, str], tuple[str, ...]] = {
        **{("pipeline", row): (*spec.flag_owners, spec.model) for row, spec in PIPELINES.items()},
        **{("optimizer", row): (path,) for row, path in OPTIMIZERS.items()},
        **{("scheduler", row): (path,) for row, path in SCHEDULERS.items()},
        **{("loggers", row): (path,) for row, path in LOGGERS.items()},
    }
    variants = {
        ("pipeline", f"{row} {dashed(flag)}"): spec.variant(flag).flag_owners
        for row, spec in PIPELINES.items()
        for flag in spec.variants
    }
    owners = [owner for owner, of_row in paths.items() if _declares(name, of_row)]
    owners = owners or [owner for owner, of_variant in variants.items() if _declares(name, of_variant)]
    if name.endswith(WEIGHT):
        owners += [("pipeline", row) for row, spec in PIPELINES.items() if name in weight_flags(spec)]
    return owners


def _declares(name: str, paths: tuple[str, ...]) -> bool:
    try:
        return name in declared(*paths)
    except (ImportError, UserError):  # an optional package is absent
        return False


PRINTED = ("comments", "skip_null", "skip_default")


def printed(groups: Groups, options: Mapping[str, Any], how: str | bool) -> str:
    """Return the values of all flags as YAML.

    Args:
        groups: Flags of the run by group.
        options: Their values; none for required flags that are absent.
        how: Words of ``PRINTED``, separated by commas; ``True`` is none of them.

    Raises:
        ConfigurationError: When it has other words.
    """
    words = how.split(",") if isinstance(how, str) else []
    if unknown_words := [word for word in words if word not in PRINTED]:
        word = unknown_words[0]
        raise ConfigurationError(
            f"--print_config: found '{word}', expected some of {', '.join(PRINTED)}.{did_you_mean(word, PRINTED)}"
        )
    flags = {name: flag for members in groups.values() for name, flag in members.items()}
    shown = {
        name: value
        for name, value in options.items()
        if not ("skip_null" in words and value is None)
        and not ("skip_default" in words and value == flags[name].default)
    }
    comments = {name: f"{flag.help} ({describe(flag.hint)})" for name, flag in flags.items()}
    return to_yaml(grouped(groups, shown), comments if "comments" in words else {})


def grouped(groups: Groups, options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return values by group, without the flags of the command itself and those that others replace."""
    unused = {other for name, other in REPLACED_BY.items() if options.get(name) is not None}
    shown = options.keys() - unused
    return {title: {name: options[name] for name in flags if name in shown} for title, flags in groups.items()}
