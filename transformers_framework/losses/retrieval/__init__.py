"""Losses of query and passage embeddings: one function each, and one row each of the table."""
