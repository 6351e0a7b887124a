"""Collect garbage rarely while a run is built, and do not search its long-lived objects again."""

from __future__ import annotations

import gc

USUAL = gc.get_threshold()
RARELY = 1_000_000  # new objects between two searches


def collect_rarely() -> None:
    """Search for cycles of garbage rarely until :func:`freeze_start_up_objects`; only in a process of one run.

    Imports make a million objects that stay. To search among them again and again took 1.2 of the 6.2 s of processor
    time from the command to the first step, for 12 thousand objects of garbage and no tensor among them.
    """
    gc.set_threshold(RARELY, *USUAL[1:])


def freeze_start_up_objects() -> None:
    """Freeze all objects and collect garbage as usual from now on; does nothing unless it was collected rarely.

    Else the first search would go through all modules again, for a second, and forked workers would copy their pages.
    """
    if gc.get_threshold()[0] == RARELY:
        gc.freeze()
        gc.set_threshold(*USUAL)
