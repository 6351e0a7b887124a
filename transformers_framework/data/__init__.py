"""Batches: the order of rows, the workers of the data loader, and the collator."""
