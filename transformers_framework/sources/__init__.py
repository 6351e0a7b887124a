"""Dataset sources: loading, readers of data files, checks of columns, and the cache of prepared data."""
