"""Processes and nodes of a run: start, collectives, failures."""
