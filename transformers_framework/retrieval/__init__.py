"""Search of a whole corpus in evaluation of the retrieval pipeline."""
