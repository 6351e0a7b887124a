"""The command line: from words to one checked run."""
