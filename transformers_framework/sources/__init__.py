"""Data sets: where they come from, readers of files, columns, and their cache."""
