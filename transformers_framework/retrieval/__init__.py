"""Search of a whole corpus in evaluation, which the row of retrieval adds to a run."""
