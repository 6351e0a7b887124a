"""Storage: atomic writes, the cache, remote files, and the folders of a run."""
