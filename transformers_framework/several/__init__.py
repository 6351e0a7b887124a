"""Several runs: one after the other with several seeds or flags, their means, and comparisons of their metrics."""
