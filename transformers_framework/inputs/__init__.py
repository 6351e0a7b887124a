"""Rows become model inputs: one class a shape of input."""
