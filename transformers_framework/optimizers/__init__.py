"""Optimizers: factories over groups of parameters, their signatures are flags."""
