"""Our own program with a clock in it: ``python -m benchmarks.ours SKIP STOP [flags of transformers_framework]``."""

from __future__ import annotations

import sys

from benchmarks.clock import Clock
from transformers_framework import experiment
from transformers_framework.cli.main import main


def with_clock(skip: int, stop: int) -> None:
    """Give every experiment of this process one more callback."""
    callbacks = experiment.run_callbacks

    def more_callbacks(run: object) -> list:
        import pytorch_lightning as pl

        class ClockCallback(pl.Callback):
            clock = Clock(skip, stop)

            def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
                self.clock.count(batch["attention_mask"])

            def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
                self.clock.end_of_step()

        return [*callbacks(run), ClockCallback()]

    experiment.run_callbacks = more_callbacks


if __name__ == "__main__":
    with_clock(int(sys.argv[1]), int(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
