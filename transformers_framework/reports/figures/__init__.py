"""Figures of a run as PNG: learning curves, lengths, and those of the details of objectives."""
