"""Exports, and checkpoints of others, as runs that only predict."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from transformers_framework.cli import parser
from transformers_framework.cli.arguments import Arguments
from transformers_framework.cli.given import Given, from_values
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.experiment import Experiment
from transformers_framework.export_description import FILE, check_described, read_description, task_flags
from transformers_framework.objectives.capabilities import Corrupts, head_of
from transformers_framework.registry import PIPELINES, PipelineSpec, given_flags, options_of, pipeline_spec, resolve
from transformers_framework.restricted import is_address
from transformers_framework.serving.rows import ROWS
from transformers_framework.sources.columns import DatasetSource
from transformers_framework.storage.cache import cache_folder
from transformers_framework.storage.pre_trained import fetch, model_files
from transformers_framework.storage.remote import download

if TYPE_CHECKING:
    from datasets import Dataset

    from transformers_framework.data.datamodule import DataModule
    from transformers_framework.models.auto import HeadSpec
    from transformers_framework.models.model import Model

PLAIN_MODEL = PipelineSpec("", "", "", ()).model

logger = logging.getLogger(__name__)


class ServedRun(Experiment):
    """A run that loads an export and only predicts.

    Args:
        options: The value of every flag.
        spec: Row of the pipeline, with the objectives that predict.
        heads: Folder of each head.
    """

    def __init__(self, options: Mapping[str, Any], spec: PipelineSpec, heads: Mapping[str, Path]) -> None:
        super().__init__(options, **options_of(Experiment, options))
        self.spec, self.heads = spec, heads

    @cached_property
    def data(self) -> DataModule:
        """The data to predict: a source, or rows that are given later."""
        if self.options["predict_dataset"] != ROWS:
            return super().data
        import datasets

        from transformers_framework.data.datamodule import DataModule
        from transformers_framework.data.limits import Limits
        from transformers_framework.data.preparation import Preparation

        parts = Limits(), Preparation(**options_of(Preparation, self.options))
        flags = options_of(DataModule, self.options)
        data = DataModule(self.inputs, self.objectives, self.seed, self.options, *parts, **flags)
        empty = datasets.Dataset.from_dict({name: [] for name in data.named_columns.read or ()})
        for objective in self.objectives:  # their classes are those of the checkpoint
            objective.pre_process(empty, DatasetSource("predict", ROWS, str))
        return data

    def take(self, dataset: Dataset) -> None:
        """Check and prepare rows in memory, and make them the rows to predict.

        Raises:
            DataError: When a column is missing or a value is wrong, with the row.
        """
        import datasets
        import pyarrow as pa

        source = DatasetSource("predict", ROWS, lambda row: f"row {row}")
        for part in self.data.parts:
            dataset = part.pre_process(dataset, source)
        inputs = self.inputs.in_stage("predict")
        if inputs.rewrite_key is not None:
            tables = inputs.rewrite(dataset, source, batch_size=len(dataset))
            dataset = datasets.Dataset(pa.concat_tables(tables), fingerprint=ROWS)
        self.data.datasets["predict"], self.data.num_rows["predict"] = dataset, len(dataset)

    def config_of(self, objective: str) -> Any:
        """Return the config of an objective's head: each has a folder of its own."""
        from transformers_framework.models.auto import load_config

        if len(self.spec.objectives) == 1:
            return self.config
        return load_config(model="auto", pre_trained_model=str(self.heads[objective]))

    def load_model(self, heads: Mapping[str, HeadSpec], config: Any) -> Model:
        """Return the model; heads of several folders share the first one's backbone, which is the same in each."""
        from transformers_framework.models.auto import load_model
        from transformers_framework.models.multi_head import MultiHeadModel

        if len(heads) == 1 or self.spec.model != PLAIN_MODEL:
            return super().load_model(heads, config)
        options = options_of(load_model, self.options)
        loaded, incomplete = {}, list[str]()
        for name, spec in heads.items():
            own = load_model({name: spec}, self.config_of(name), **options | {"pre_trained_model": self.heads[name]})
            loaded[name] = own.heads[name]
            incomplete += own.newly_initialized
        return MultiHeadModel(loaded, incomplete)


def served_run(
    model: str,
    flags: Mapping[str, Any],
    *,
    pipeline: str | None = None,
    cache_dir: str | None = None,
    unless_given: Mapping[str, Any] = MappingProxyType({}),
    **others: Any,
) -> ServedRun:
    """Return a run that predicts with an export; its parts are not yet built.

    Args:
        model: Folder, hub name or address.
        flags: Flags that define the task, in addition to those of the export, which they override.
        pipeline: The pipeline; by default that of the export.
        cache_dir: Folder for downloads and prepared data.
        unless_given: Values of flags that replace those of the export, where the pipeline has them.
        **others: Values of other flags of a run.

    Raises:
        ConfigurationError: When there is no such export, or neither its description nor a flag has what is needed.
    """
    folder, described = _described(model, pipeline, cache_dir)
    name, known = described["pipeline"], described["flags"]
    whole = pipeline_spec(name, given_flags({**known, **flags}))
    instead = {flag: value for flag, value in unless_given.items() if flag in task_flags(whole)}
    given = {flag: value for flag, value in {**known, **instead, **flags}.items() if value is not None}
    check_described(known, whole, str(folder / FILE))
    check_described({flag: value for flag, value in flags.items() if flag != "attention"}, whole, f"load({model!r})")
    heads = {head: folder / below for head, below in described["heads"].items()}
    spec = _predicting(whole, heads)
    options, absent = _options(name, given)
    required = [flag for flag in task_flags(whole) if options[flag] is None and flag in absent]
    if required:
        is_described = (folder / FILE).is_file()
        reason = f"another pipeline is asked for than that of its {FILE}" if is_described else f"it has no {FILE}"
        raise ConfigurationError(
            f"{model}: it has no value of {' and '.join(required)}, because {reason}. Give "
            f"{', '.join(f'{flag}=…' for flag in required)}, as in load({model!r}, pipeline={name!r}, "
            f"{required[0]}=…); on the command line {', '.join(f'--{flag}' for flag in required)}."
        )
    names = [resolve(path).name for path in spec.objectives]
    source = heads.get(names[0], folder) if spec.model == PLAIN_MODEL else folder
    options |= {"name": "served", "pre_trained_model": str(source), "cache_dir": cache_dir, **others}
    options["batch_size"] = options.get("batch_size") or 1
    return ServedRun(options, spec, heads)


def pipeline_of(model: str, pipeline: str | None, cache_dir: str | None) -> tuple[str, set[str]]:
    """Return the pipeline of an export, if none is given, and the flags of it that the export has.

    Raises:
        ConfigurationError: When there is no such export, or it has no description and no pipeline is given.
    """
    _, described = _described(model, pipeline, cache_dir)
    return described["pipeline"], given_flags(described["flags"])


def _described(model: str, pipeline: str | None, cache_dir: str | None) -> tuple[Path, dict[str, Any]]:
    """Return the folder of an export and its description, without the flags of another pipeline than the given one."""
    folder = local_folder(model, cache_dir)
    found = read_description(folder) or {"pipeline": None, "flags": {}, "heads": {}}
    if pipeline and pipeline != found["pipeline"]:
        found |= {"pipeline": pipeline, "flags": {}}
    if found["pipeline"] is None:
        raise _missing_pipeline(model, folder)
    return folder, found


def _predicting(spec: PipelineSpec, heads: Mapping[str, Path]) -> PipelineSpec:
    """Return the row with the objectives that predict: none that corrupt inputs if there are others."""
    kinds = {path: resolve(path) for path in spec.objectives}
    there = {path: kind for path, kind in kinds.items() if not heads or kind.name in heads or len(kinds) == 1}
    clean = [path for path, kind in there.items() if not issubclass(kind, Corrupts)]
    kept = tuple(clean or there)
    if len(kept) == len(kinds):
        return spec
    # parts that only training needs, such as a generator, are left out: these heads are on a plain backbone
    plain = PipelineSpec(spec.needs, spec.learns, spec.inputs, kept)
    return replace(plain, flags=spec.flags, task_flags=spec.task_flags, variants=spec.variants)


def _options(pipeline: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Return the value of every flag, those that are given after a check, and the flags that a run would need."""
    variants = {flag: str(given[flag]) for flag in pipeline_spec(pipeline).variants if flag in given_flags(given)}
    groups = parser.groups_of({"pipeline": pipeline, **variants})
    arguments = Arguments(groups)
    words: dict[str, Given] = from_values(given)
    values = {name: arguments.read(name, word) for name, word in words.items()}
    flags = {name: None if flag.is_required else flag.default for name, flag in arguments.flags.items()}
    absent = {name for name, flag in arguments.flags.items() if flag.is_required and name not in values}
    return {**flags, "model": "auto", "pipeline": pipeline, **values}, absent


def local_folder(model: str, cache_dir: str | None) -> Path:
    """Return the folder of an export; those of the hub and of addresses are downloaded.

    Raises:
        ConfigurationError: When there is none.
    """
    folder = cache_folder(cache_dir)
    if is_address(model):
        return download(model, cache_dir=folder, flag="model", choose=_export_files)
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / FILE).is_file():
            fetch(model, cache_dir=folder, what="model")
        return path
    name = fetch(model, cache_dir=folder, what="model")
    from huggingface_hub import snapshot_download

    from transformers_framework.models.reading import hub_cache, reading

    with reading("model", model, "checkpoint"):
        unneeded = ["*.h5", "*.msgpack", "*.ot", "*.onnx", "*.ckpt", "*.pt", "*.pth", "*.pkl", "*.gguf", "openvino/*"]
        return Path(snapshot_download(name, cache_dir=hub_cache(cache_dir), ignore_patterns=unneeded))


def _export_files(names: list[str]) -> list[str]:
    """Return the files of a remote folder that are needed: of each head's folder too, if it is an export of several."""
    if "config.json" in names:
        return [name for name in names if name == FILE or name in model_files(names)]
    heads = {name.partition("/")[0] for name in names if name.endswith("/config.json") and name.count("/") == 1}
    found = [name for name in names if "/" not in name]
    for head in sorted(heads):
        below = [name.partition("/")[2] for name in names if name.startswith(f"{head}/")]
        found += [f"{head}/{name}" for name in below if name == FILE or name in model_files(below)]
    return found


def _missing_pipeline(model: str, folder: Path) -> ConfigurationError:
    """Return the error for a checkpoint without a description: the pipelines that have its head."""
    from transformers_framework.models.auto import load_config

    if not (folder / "config.json").is_file():
        return ConfigurationError(f"{model}: the folder has neither a config.json nor a {FILE}. Give an export.")
    config = load_config(model="auto", pre_trained_model=str(folder))
    heads = {
        name: [head_of(resolve(path), config.model_type) for path in s.objectives] for name, s in PIPELINES.items()
    }
    is_sentence_transformer = (folder / "modules.json").is_file()
    fitting = [
        name
        for name, (head, *others) in heads.items()
        if not others
        and (
            any(kind.endswith(head.removeprefix("AutoModel")) for kind in config.architectures or ())
            if head != "AutoModel"
            else is_sentence_transformer
        )
    ]
    which = f"one of {', '.join(fitting)}" if fitting else "the one that it was trained with"
    return ConfigurationError(
        f"{model}: it has no {FILE}, so its pipeline is not known. Give pipeline=…, {which}, and its columns, as in "
        f"load({model!r}, pipeline={(fitting or ['seq_class'])[0]!r}, input_columns=[…]); on the command line "
        "--pipeline and --input_columns."
    )
