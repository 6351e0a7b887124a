"""Exact search of a whole corpus at the end of each evaluation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch.nn import functional

from transformers_framework.constants import EVALUATED, ROW_IDS, STAGES, Stage
from transformers_framework.distributed.collectives import all_gather_json
from transformers_framework.distributed.ranks import is_rank_zero
from transformers_framework.exceptions import DataError
from transformers_framework.metrics.corpus import beyond, corpus_metrics
from transformers_framework.metrics.search import TopPassages, ranked
from transformers_framework.metrics.trec import QRELS, RUN, search_qrels, search_run
from transformers_framework.objectives.capabilities import Details
from transformers_framework.processing.json_text import to_json
from transformers_framework.registry import options_of
from transformers_framework.retrieval.corpus import load_corpus
from transformers_framework.retrieval.search_texts import search_texts
from transformers_framework.run_parts import NamesNextCommand, ReportsData
from transformers_framework.runtime.precision import length_multiple
from transformers_framework.storage.atomic import atomic_file
from transformers_framework.strategies.build import method_of

if TYPE_CHECKING:
    from transformers_framework.data.datamodule import DataModule
    from transformers_framework.inputs.query_passage import QueryPassage
    from transformers_framework.objectives.details.predicted import Predicted
    from transformers_framework.objectives.details.stage_details import StageDetails
    from transformers_framework.objectives.retrieval import Retrieval
    from transformers_framework.retrieval.corpus import Batch, Corpus, Numbers, Queries
    from transformers_framework.run_parts import Run
    from transformers_framework.storage.run_folders import RunFolders

PASSAGES_TOGETHER = 4096  # passages per comparison with all queries

logger = logging.getLogger(__name__)


class CorpusSearch(pl.Callback, Details, ReportsData, NamesNextCommand):
    """Callback that retrieves the passages of a corpus most similar to the queries of a data set.

    Each rank encodes its share of the passages and keeps the top k of them for every query. Embeddings of passages are
    not kept, so memory does not depend on the size of the corpus.

    Args:
        corpus: Passages.
        data: Queries.
        objective: Has the similarity function and the columns of ids and labels.
        folders: Folders of the run for files; without it, nothing is written.
    """

    name = "corpus"  # in the names of files and in details

    def __init__(self, corpus: Corpus, data: DataModule, objective: Retrieval, folders: RunFolders | None) -> None:
        self.corpus, self.data, self.objective, self.folders = corpus, data, objective, folders
        self.kept: list[tuple[np.ndarray, torch.Tensor]] = []
        self.queries = cache(self._queries)

    def _queries(self, stage: Stage) -> Queries:
        objective = self.objective
        columns = {"index_column": objective.index_column, "label_column": objective.label_column}
        return self.corpus.queries(self.data.datasets[stage], self.data.source_of(stage), **columns)

    def check(self) -> None:
        """Check before training that the corpus contains all relevant passages; log the metrics left out.

        Raises:
            DataError: When one is missing, or a query has none with ``error`` as action, with the place.
        """
        evaluates = any(map(self.data.has, EVALUATED))
        if evaluates and is_rank_zero() and (left_out := ", ".join(beyond(self.corpus.top_k))):
            logger.info("--top_k %d: metrics of more passages are left out: %s", self.corpus.top_k, left_out)
        for stage in STAGES[1:]:
            if not self.data.has(stage):
                continue
            queries = self.queries(stage)
            empty = np.setdiff1d(np.arange(len(queries.rows)), queries.query)
            if len(empty) and stage != "predict" and self.objective.empty_target_action == "error":
                raise DataError(
                    f"{self.data.source_of(stage).place(int(queries.rows[empty[0]]))}: no passage is relevant to "
                    f"this query and to {len(empty) - 1} others, but --metrics_empty_target_action is error. Remove "
                    "these queries, or choose skip, neg or pos."
                )

    def data_lines(self) -> list[str]:
        """Return the size of the corpus, and the queries and relevant passages of each evaluation."""
        rows, texts = len(self.corpus.dataset), len(self.corpus)
        repeated = f", {rows - texts:,} of them with the text of an earlier row" if texts < rows else ""
        lines = [f"corpus: {self.corpus.source.name}, {rows:,} rows{repeated}"]
        for stage in EVALUATED:
            if self.data.has(stage):
                queries = self.queries(stage)
                count, empty = len(queries.rows), len(queries.rows) - len(np.unique(queries.query))
                relevant = len(queries.relevant) / max(1, count - empty)
                found = f"{count:,} queries, {empty:,} of them without a relevant passage"
                lines.append(f"  {stage}: {found}; the others have {relevant:.1f} on average")
        return lines

    # ---------------------------------------------------------------- stages

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Keep the queries of a batch."""
        if not trainer.sanity_checking:
            self._keep("valid", outputs, batch)

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *args: Any) -> None:
        """Keep the queries of a batch."""
        self._keep("test", outputs, batch)

    def on_predict_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *args: Any) -> None:
        """Keep the queries of a batch."""
        self._keep("predict", outputs, batch)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Search the corpus and log ranking metrics."""
        if not trainer.sanity_checking:
            self._evaluate(trainer, pl_module, "valid")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Search the corpus, log ranking metrics and write the retrieved passages."""
        self._write("test", trainer, *self._evaluate(trainer, pl_module, "test"))

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Search the corpus and write the retrieved passages."""
        self._write("predict", trainer, *self._search(trainer, pl_module, "predict"))

    def _keep(self, stage: Stage, outputs: Any, batch: Any) -> None:
        rows = batch[ROW_IDS].cpu().numpy()
        mine = np.flatnonzero(np.isin(rows, self.queries(stage).rows))
        embeddings = outputs["embeddings"]
        queries = embeddings[torch.from_numpy(mine).to(embeddings.device)]
        self.kept.append((rows[mine], self._comparable(queries)))

    def _comparable(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return embeddings whose inner product is the score."""
        by_cosine = self.objective.scores_fn == "cosine_similarity"
        return functional.normalize(embeddings.float(), dim=-1) if by_cosine else embeddings.float()

    def _evaluate(self, trainer: pl.Trainer, pl_module: Any, stage: Stage) -> tuple[Numbers, np.ndarray, Numbers]:
        seen, scores, found = self._search(trainer, pl_module, stage)
        queries = self.queries(stage)
        place = np.full(len(queries.rows), -1)
        place[seen] = np.arange(len(seen))
        known = place[queries.query] >= 0  # all, unless batches are limited
        values = corpus_metrics(
            found,
            place[queries.query[known]],
            queries.relevant[known],
            top_k=self.corpus.top_k,
            empty_target_action=self.objective.empty_target_action,
        )
        pl_module.log_dict({f"{stage}/{self.objective.name}/{name}": value for name, value in values.items()})
        return seen, scores, found

    # ---------------------------------------------------------------- search

    def _search(self, trainer: pl.Trainer, pl_module: Any, stage: Stage) -> tuple[Numbers, np.ndarray, Numbers]:
        """Return the evaluated queries ``(Q,)``, and scores and numbers of their top passages ``(Q, K)``."""
        kept, self.kept = self.kept, []
        parts = all_gather_json([(rows, embeddings.cpu()) for rows, embeddings in kept])
        rows, embeddings = zip(*(pair for part in parts for pair in part), strict=True)
        order = np.argsort(joined := np.concatenate(rows), kind="stable")
        queries = torch.cat(embeddings)[torch.from_numpy(order)].to(pl_module.device)
        wanted = self.queries(stage).rows
        by_row = np.argsort(wanted)
        seen = by_row[np.searchsorted(wanted[by_row], joined[order])]
        best = TopPassages(queries, self.corpus.top_k)
        for passages, numbers in self._passages(trainer, pl_module):
            best.add(passages, numbers)
        mine = best.scores.cpu().numpy(), best.numbers.cpu().numpy()
        all_scores, all_numbers = (np.concatenate(part, axis=1) for part in zip(*all_gather_json(mine), strict=True))
        return seen, *self.corpus.passages(*ranked(all_scores, all_numbers, self.corpus.top_k))

    def _passages(self, trainer: pl.Trainer, pl_module: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield embeddings and numbers of the passages of this rank, in large chunks."""
        size, device = self.data.batch_sizes["valid"], pl_module.device
        batches = self.corpus.batches(
            size,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            num_workers=self.data.workers_of(trainer),
            pad_to_multiple_of=length_multiple(trainer),
        )
        if pl_module.shards_weights:
            batches = self._as_many(batches, -(-len(self.corpus) // (size * trainer.world_size)))
        encode, context = method_of(trainer, "passage_embeddings"), trainer.precision_plugin.forward_context
        waiting: list[tuple[torch.Tensor, torch.Tensor]] = []
        for embeddings, numbers in encoded(batches, encode, device, context):
            waiting.append((self._comparable(embeddings), numbers))
            if sum(len(found) for found, _ in waiting) >= PASSAGES_TOGETHER:
                yield _joined(waiting)
                waiting = []
        if waiting:
            yield _joined(waiting)

    def _as_many(self, batches: Iterator[Batch], most: int) -> Iterator[Batch]:
        """Yield batches, and an empty one if other ranks have one more, because all ranks gather sharded weights."""
        count = 0
        for count, batch in enumerate(batches, 1):  # noqa: B007
            yield batch
        if count < most:
            _, inputs = next(self.corpus.batches(1))
            yield np.zeros(0, dtype=np.int64), inputs

    def next_command(self, run: Run, model: str) -> str:
        """Return the command that searches the corpus for new queries."""
        from transformers_framework.retrieval.new_queries import search_command

        return search_command(run, model)

    # ---------------------------------------------------------------- files

    def details(self, predicted: Predicted, num_mistakes: int) -> StageDetails:
        """Return ranks of the first relevant passages of the test stage, and passages retrieved above them."""
        from transformers_framework.retrieval.search_details import search_details

        return search_details(self.corpus, self.data.datasets["test"], predicted, num_mistakes)

    def _write(self, stage: Stage, trainer: pl.Trainer, seen: Numbers, scores: np.ndarray, found: Numbers) -> None:
        if self.folders is None or not trainer.is_global_zero:
            return
        queries = self.queries(stage)
        names = [queries.names[query] for query in seen]
        distinct, places = np.unique(found, return_inverse=True)
        ids = np.array([*self.corpus.ids(distinct), None], dtype=object)[:-1]
        passages = ids[places.reshape(found.shape)].tolist()
        self.folders.predictions.mkdir(parents=True, exist_ok=True)
        path = self.folders.predictions / f"{stage}.{self.name}.jsonl"
        values = np.round(scores.astype(np.float64), 7).tolist()
        rows, columns = queries.rows[seen], {"query_id": names, "passages": passages, "scores": values}
        files: dict[Path, Iterator[str]] = {path.with_suffix(RUN): search_run(names, passages, scores)}
        if stage != "predict":
            relevant = self.corpus.ids(queries.relevant)
            of_query = [queries.names[query] for query in queries.query]
            files[path.with_suffix(QRELS)] = search_qrels(of_query, relevant)
            starts, ends = (np.searchsorted(queries.query, seen, side).tolist() for side in ("left", "right"))
            columns["relevant"] = [relevant[start:end] for start, end in zip(starts, ends, strict=True)]
        texts = search_texts(self.corpus.inputs, self.corpus, self.data.datasets[stage], rows, found)
        lines = (dict(zip(columns, line, strict=True)) for line in zip(*columns.values(), strict=True))
        whole = ({"id": row} | text | line for row, text, line in zip(rows.tolist(), texts, lines, strict=True))
        files[path] = map(to_json, whole)
        for file, content in files.items():
            with atomic_file(file) as aside, aside.open("w", encoding="utf-8") as open_file:
                open_file.writelines(f"{line}\n" for line in content)
        logger.info("The best of %d passages for %d queries are in %s", len(self.corpus), len(seen), path)


def corpus_search(run: Run) -> CorpusSearch | None:
    """Return the callback that searches the corpus of a run; None if it has no corpus.

    Args:
        run: The run.

    Raises:
        ConfigurationError: When flags of a corpus are given without one.
        DataError: When the corpus is invalid, with the place.
    """
    corpus = load_corpus(cast("QueryPassage", run.inputs), **options_of(load_corpus, run.options))
    (objective,) = run.objectives
    folders = None if run.is_fast_dev_run else run.folders
    return None if corpus is None else CorpusSearch(corpus, run.data, cast("Retrieval", objective), folders)


def check_corpus(run: Run) -> None:
    """Check that the corpus contains all positives.

    Args:
        run: The run.

    Raises:
        DataError: With the place of the row.
    """
    for callback in run.pipeline_callbacks:
        if isinstance(callback, CorpusSearch):
            callback.check()


def encoded(
    batches: Iterator[Batch],
    tower: Callable[..., torch.Tensor],
    device: torch.device,
    context: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield embeddings ``(B, E) float32`` and numbers ``(B,) int64`` of batches of passages.

    Args:
        batches: As :meth:`Corpus.batches` yields them; embeddings of passages without a number are dropped.
        tower: The encoder.
        device: Its device.
        context: Context manager around its calls, such as autocast.
    """
    for numbers, batch in batches:
        inputs = {key: torch.from_numpy(values).to(device, non_blocking=True) for key, values in batch.items()}
        with context():
            embeddings = tower(**inputs)
        yield embeddings[: len(numbers)], torch.from_numpy(numbers).to(device)


def _joined(parts: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    embeddings, numbers = zip(*parts, strict=True)
    return torch.cat(embeddings), torch.cat(numbers)
