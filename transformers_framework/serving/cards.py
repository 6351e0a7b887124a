"""Model cards of a run that has ended: how the exported states were chosen, and the results of the test."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytorch_lightning as pl

from transformers_framework.callbacks.model_card import CARD, with_results
from transformers_framework.run_parts import EndsRun
from transformers_framework.storage.atomic import atomic_file

if TYPE_CHECKING:
    from transformers_framework.run_parts import Run

logger = logging.getLogger(__name__)


def model_cards(run: Run, *, card_license: str | None = None, card_language: list[str] | None = None) -> Cards | None:
    """Return the callback that completes the model cards of exports.

    Args:
        run: The run.
        card_license: Licence of the model on its card, by the name that the hub gives it, as apache-2.0.
        card_language: Languages of the model on its card, by their codes, as en.
    """
    return Cards() if run.options.get("train_dataset") is not None and run.writes else None


class Cards(pl.Callback, EndsRun):
    """Complete the cards of ``best`` and ``final`` when the run has ended."""

    def on_run_end(self, run: Run) -> None:
        """Add how the states were chosen, and the results of the test to the card of the state that was tested."""
        if not run.trainer.is_global_zero:
            return
        tested = {name: value for name, value in sorted(run.metrics.items()) if name.startswith("test/")}
        models, states = run.folders.pre_trained_models, {"best": _best(run), "final": _last(run)}
        tested_state = "best" if states["best"] and (models / "best").exists() else "final"
        for state, chosen in states.items():
            results = tested if state == tested_state else {}
            for path in sorted((models / state).rglob(CARD)) if chosen else ():
                try:
                    _complete(run, path, chosen, results)
                except Exception as error:
                    logger.warning("%s was not completed with the results of the test: %s", path, error)


def _best(run: Run) -> str:
    """Return how the best state was chosen; an empty text if none was."""
    from transformers_framework.callbacks.checkpoints import best_of

    if (best := best_of(run.trainer)) is None:
        return ""
    how = "highest" if best["direction"] == "max" else "lowest"
    return (
        f"The best state of the training, of step {best['step']}: that with the {how} `{best['monitor']}`, "
        f"{best['value']:.6g}."
    )


def _last(run: Run) -> str:
    return f"The last state of the training, of step {run.trainer.global_step}."


def _complete(run: Run, path: Path, chosen: str, tested: dict[str, float]) -> None:
    from huggingface_hub import ModelCard

    head = path.parent.name
    own = {name: value for name, value in tested.items() if f"/{head}/" in name}
    is_head = path.parent.parent.name in ("best", "final") and own
    card = with_results(ModelCard.load(path), run.options, chosen, own if is_head else tested)
    with atomic_file(path) as aside:  # other exports may link to the same file
        aside.write_text(card.content, encoding="utf-8")
