"""``python -m transformers_framework.tokenizer``: train a tokenizer on texts, with the special tokens of a family."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from transformers_framework.constants import Stage
from transformers_framework.exceptions import ConfigurationError, DataError
from transformers_framework.restricted import LocalPath, PositiveInt, Range, Source
from transformers_framework.sources.data_files import Reading, TextUnit
from transformers_framework.special_tokens import TokenizerType

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

    from transformers_framework.cli.tool import Values
    from transformers_framework.families import Family
    from transformers_framework.sources.fields import Field

logger = logging.getLogger("transformers_framework.tokenizer")  # this module's name is another when it is the program

USAGE = "python -m transformers_framework.tokenizer --input TEXTS --output FOLDER [--model FAMILY] [flags]"
STAGE: Stage = "train"  # of the flags in messages about data
OWN_WORDS = {  # of messages about the data of a run: this command's
    "--train_dataset": "--input",
    "--train_field": "--input_field",
    "--train_config": "--input_config",
    "the train data set": "the input",
}
COLUMN = "text"  # of text files, and of most data sets
ROWS = 200  # that are in memory together; a row may be a whole file
POSITIONS = 512  # longest input of families whose config has no limit
FILES = ("tokenizer.json", "tokenizer_config.json")  # of a tokenizer

Share = Annotated[float, Range(above=0, le=1)]


def train_tokenizer(
    *,
    input: list[Source],
    output: LocalPath,
    model: str | None = None,
    type: TokenizerType | None = None,
    vocab_size: PositiveInt = 32_000,
    lower_case: bool = False,
    input_columns: list[str] | None = None,
    text_unit: TextUnit = "line",
    input_field: str | None = None,
    input_config: str | None = None,
    shard_dataset: PositiveInt | None = None,
    character_coverage: Share = 0.9999,
    model_max_length: PositiveInt | None = None,
    overwrite: bool = False,
    cache_dir: LocalPath | None = None,
) -> PreTrainedTokenizerFast:
    """Train a tokenizer on texts and write it to a folder, for `pre_trained_tokenizer` and for AutoTokenizer.

    The same texts and flags make the same files, whatever the number of threads.

    Args:
        input: Texts, from any sources that `train_dataset` reads: files, folders, globs, addresses, hub names.
        output: Folder to write.
        model: Family whose special tokens, template and inputs the tokenizer has.
            Default: bert, or for other types roberta (bpe) and xlm_roberta (unigram)
        type: Type of the tokenizer: word pieces as of BERT, byte-level BPE as of RoBERTa, or unigram pieces as of T5.
            Default: as published for the family
        vocab_size: Number of tokens, special tokens included; fewer if the texts do not have so many.
        lower_case: Lower-case all texts; accents, vowel signs and other marks stay.
        input_columns: Text columns: 'name' (of texts, or of lists of texts) or 'first:second'. Default: text
        text_unit: Row of a .txt file; the tokens depend on it only if words stretch over lines.
        input_field: Key of the list of rows, where an input file is one JSON object.
        input_config: Configuration of a hub data set.
        shard_dataset: Keep one row in N.
        character_coverage: Share of the characters of the texts that the vocabulary has; the rarest become the unknown
            token. Byte-level BPE has them all.
        model_max_length: Longest input in tokens that the tokenizer states.
            Default: the number of positions of the family's models
        overwrite: Replace a tokenizer that exists.
        cache_dir: Folder for downloads and prepared data; by default the user's cache folder.

    Returns:
        The tokenizer.

    Raises:
        ConfigurationError: When the family has no tokenizers that can be trained, the size is too small for the
            characters of the texts, or the folder exists.
        DataError: When the texts cannot be read, or are empty.
    """
    from transformers_framework.models.new_tokenizer import learn_tokenizer, save_tokenizer
    from transformers_framework.processing.vocabulary import TooFewTokensError
    from transformers_framework.storage.atomic import atomic_folder

    family = _family(model, type)
    path = _free(Path(output), overwrite)
    assert not isinstance(family.tokens, str)
    reading = Reading(text_unit, input_field, STAGE)
    texts = Texts.load(input, input_columns or [COLUMN], reading, cache_dir, config=input_config, shard=shard_dataset)
    kind = type or family.tokens.type
    logger.info("Training a %s tokenizer for %s on %s texts", kind, family.name, f"{len(texts):,}")
    try:
        tokenizer = learn_tokenizer(
            texts.batches,
            family.tokens,
            kind,
            vocab_size=vocab_size,
            lower_case=lower_case,
            character_coverage=character_coverage,
            model_max_length=model_max_length or longest_input(family),
        )
    except TooFewTokensError as error:
        characters = "the 256 bytes" if kind == "bpe" else "the characters of the texts"
        others = ", or less --character_coverage, or --type bpe, whose characters are 256 bytes"
        raise ConfigurationError(
            f"--vocab_size {vocab_size}: the special tokens and {characters} alone are {error.fewest:,} tokens. Give "
            f"more{'' if kind == 'bpe' else others}."
        ) from error
    if len(tokenizer) < vocab_size:
        logger.warning(
            "--vocab_size: asked for %s tokens, the texts yield %s: no further pieces occur twice. Add texts, or leave "
            "it at that.",
            *(f"{number:,}" for number in (vocab_size, len(tokenizer))),
        )
    try:
        with atomic_folder(path) as aside:
            save_tokenizer(tokenizer, aside, family, lower_case=lower_case)
    except OSError as error:
        raise ConfigurationError(f"--output {output}: it cannot be written ({error.strerror}).") from error
    for line in description(tokenizer, next(texts.batches())):
        logger.info("%s", line)
    return tokenizer


@dataclass(frozen=True)
class Texts:
    """The texts of several data sets, which are read again and again without being in memory.

    Args:
        datasets: Name, rows and text columns of each data set.
    """

    datasets: Sequence[tuple[str, Dataset, Sequence[Field]]]

    def __len__(self) -> int:
        return sum(len(rows) for _, rows, _ in self.datasets)

    @classmethod
    def load(
        cls,
        sources: Sequence[str],
        columns: Sequence[str],
        reading: Reading,
        cache_dir: str | None,
        *,
        config: str | None = None,
        shard: int | None = None,
    ) -> Texts:
        """Load data sets; files are converted once and memory-mapped.

        Args:
            sources: The data sets.
            columns: Columns of their texts.
            reading: How files are read.
            cache_dir: Folder for converted files.
            config: Configuration of data sets of the hub.
            shard: Keep one row in N.

        Raises:
            DataError: When one is absent, broken or has no such columns, or no row has a visible character.
        """
        from transformers_framework.sources.columns import DatasetSource, check_column, check_text_type, has_text
        from transformers_framework.sources.fields import NamedColumns, parse_field
        from transformers_framework.sources.loading import load_dataset, row_place
        from transformers_framework.storage.cache import cache_folder

        fields, found = [parse_field(column) for column in columns], []
        names = list(dict.fromkeys(name for field_ in fields for name in field_.columns))
        for source in sources:
            rows: Any = load_dataset(
                source,
                cache_dir=cache_folder(cache_dir),
                stage=STAGE,
                config=config,
                shard=shard,
                columns=NamedColumns(frozenset(names)),
                reading=reading,
            )
            about = DatasetSource(STAGE, source, partial(row_place, source, cache_dir=cache_folder(cache_dir)))
            for name in names:
                check_column(rows, name, about, flag="input_columns")
            own = [_as_stored(each, rows) for each in fields]
            for each in own:
                for name in each.columns:
                    check_text_type(rows, name, about, is_list=each.is_list)
            found.append((source, rows.select_columns(names), own))
        if not any(has_text(rows, names) for _, rows, _ in found):
            raise DataError(
                f"--input {' '.join(sources)}: no row has a visible character in {', '.join(names)}. Give texts."
            )
        return cls(found)

    def batches(self) -> Iterator[list[str]]:
        """Yield the texts of some rows after the others."""
        from transformers_framework.sources.columns import chunks
        from transformers_framework.sources.fields import segments

        for source, rows, fields in self.datasets:
            for part in chunks(rows, ROWS, title=f"Reading texts of {source}"):
                yield segments(part, fields)[0]


def _as_stored(field: Field, rows: Dataset) -> Field:
    """Return the field of a list column, such as the words of a CoNLL file, as a list also without a marker.

    Whether its texts are joined or segments makes no difference to a vocabulary.
    """
    from transformers_framework.sources.columns import item_feature

    (first, *others) = field.columns
    return field if others or item_feature(rows.features[first]) is None else replace(field, is_list=True)


def longest_input(family: Family) -> int:
    """Return the longest input of the models of a family, in tokens."""
    from transformers_framework.models.positions import max_positions
    from transformers_framework.models.sizes import config_of_size

    if isinstance(family.sizes, str):
        return POSITIONS
    return max_positions(config_of_size(f"{family.name}:{next(iter(family.sizes))}", "model")) or POSITIONS


def description(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[str]:
    """Return lines with tokens per word and unknown tokens of texts, and an example.

    Args:
        tokenizer: The tokenizer.
        texts: Some texts.
    """
    shown = next((text for text in texts if text.strip()), "")[:60]
    ids = [row.ids for row in tokenizer.backend_tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
    tokens, words = sum(map(len, ids)), sum(len(text.split()) for text in texts)
    unknown = sum(row.count(tokenizer.unk_token_id) for row in ids)
    return [
        f"{tokens / max(1, words):.2f} tokens per word, {100 * unknown / max(1, tokens):.2f} % of them unknown, in the "
        f"first {len(texts):,} texts",
        f"{shown!r} is read as {' '.join(tokenizer.convert_ids_to_tokens(tokenizer(shown)['input_ids']))}",
    ]


def _family(model: str | None, type: TokenizerType | None) -> Family:
    """Return the row of a family for which tokenizers can be trained; without one, the best known of a type."""
    from transformers_framework.families import TYPICAL
    from transformers_framework.registry import MODELS, lookup

    model = model or TYPICAL[type or "wordpiece"]
    family: Family = lookup(MODELS, model.replace("-", "_"), "model")
    if isinstance(family.tokens, str):
        known = ", ".join(name for name, row in sorted(MODELS.items()) if not isinstance(row.tokens, str))
        raise ConfigurationError(f"--model {model}: no tokenizer can be trained: {family.tokens}. Known: {known}.")
    return family


def _free(path: Path, overwrite: bool) -> Path:
    """Return a folder that may be written.

    Raises:
        ConfigurationError: When it is a file, has a tokenizer, has other files, which would be removed, or cannot be
            written.
    """
    from transformers_framework.cli.tool import check_writable

    if path.is_file():
        raise ConfigurationError(f"--output {path}: this is a file. Give a folder.")
    inside = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    if others := [name for name in inside if name not in FILES]:
        raise ConfigurationError(
            f"--output {path}: this folder has other files, such as {others[0]}, and is written as a whole. Give "
            "another one."
        )
    if inside and not overwrite:
        raise ConfigurationError(f"--output {path}: this tokenizer exists. Add --overwrite to replace it.")
    check_writable(path)
    return path


# --- the command -----------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status, see :func:`cli.tool.run_tool`.

    Args:
        argv: The words after the program's name; those of the process when absent.
    """
    from transformers_framework.cli.tool import run_function

    return run_function(argv, _command, train_tokenizer, title="tokenizer", usage=USAGE, words=OWN_WORDS)


def _command(values: Values) -> None:
    from transformers_framework.runtime.log import set_up_logging

    set_up_logging()
    tokenizer = train_tokenizer(**values.own)
    family, output = _family(values.own["model"], values.own["type"]), values.own["output"]
    size = "" if isinstance(family.sizes, str) else f" --pre_trained_config {family.name}:{next(iter(family.sizes))}"
    sys.stdout.write(
        f"{output}: {len(tokenizer):,} tokens. To train a model from scratch with it: "
        f"--model {family.name}{size} --pre_trained_tokenizer {output}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
