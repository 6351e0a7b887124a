"""Data sets: where they come from, their order, and how rows become batches."""
