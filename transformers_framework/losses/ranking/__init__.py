"""Losses of the scores of candidates: a function and a row of the table for each."""
