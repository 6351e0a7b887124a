"""Pure functions on numpy batches: columns, encoding, randomness."""
