"""Losses of query and passage embeddings: a function and a row of the table for each."""
