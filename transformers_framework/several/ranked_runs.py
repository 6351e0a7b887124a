"""Runs of several pipelines that rank candidates, as retrieval and answer selection: they share ranking metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from transformers_framework.metrics.corpus import PREFIX
from transformers_framework.several.finished_runs import Compared, Member, Ranking
from transformers_framework.several.measures import RANKED, RANKING

LOSS = "loss"  # other than the metrics, it depends on how the candidates are learned


def with_ranking(runs: Sequence[Compared], stage: str) -> Sequence[Compared]:
    """Return runs that rank candidates by several objectives with the ranking metrics that all of them have.

    The names of these are ``{stage}/ranking/{metric}``. Other runs are returned as they are.

    Args:
        runs: The runs.
        stage: The compared stage.
    """
    found = {member: ranking_of(member, stage) for run in runs for member in run.members}
    rankings = [ranking for ranking in found.values() if ranking is not None]
    if len(rankings) < len(found) or len({ranking.objective for ranking in rankings}) == 1:
        return runs
    names = [name for name in rankings[0].names if all(name in ranking.names for ranking in rankings)]
    if not names:
        return runs

    def ranked(member: Member, ranking: Ranking) -> Member:
        return replace(member, ranking=ranking._replace(names=tuple(f"{stage}/{RANKING}/{name}" for name in names)))

    return [replace(run, members=[ranked(m, r) for m in run.members if (r := found[m]) is not None]) for run in runs]


def ranking_of(member: Member, stage: str) -> Ranking | None:
    """Return the objective of a run that ranks candidates, and the names of its metrics without prefix; or None."""
    values = member.values(stage)
    for objective in RANKED:
        prefix = f"{stage}/{objective}/"
        names = tuple(n.removeprefix(prefix) for n in values if n.startswith(prefix) and n != f"{prefix}{LOSS}")
        if names:
            return Ranking(objective, names)
    return None


def why_different(runs: Sequence[Compared], stage: str) -> str:
    """Return why runs have no metric in common, and what to do."""
    members = [member for run in runs for member in run.members]
    tasks = ", ".join(f"'{member.name}' {member.results.get('pipeline')}" for member in members)
    reason = f"The runs have different tasks and no {stage} metric in common: {tasks}."
    rankings = [ranking_of(member, stage) for member in members]
    for member, ranking in zip(members, rankings, strict=True):
        if None not in rankings and ranking and all(name.startswith(PREFIX) for name in ranking.names):
            return (
                f"{reason} '{member.name}' has searched a corpus, and not ranked the candidates of each query. Test "
                "its model on the file of the other, with --label_column and --index_column."
            )
    return f"{reason} Compare runs of one task on the same data."
