"""Distributed runs: start-up of ranks and nodes, collectives, detection of failures."""
