"""Batches: the order of rows, the loader's workers, and how rows become batches."""
