"""Inputs: turn rows into model inputs, one class per type of input."""
