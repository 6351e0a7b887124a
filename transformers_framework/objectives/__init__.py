"""Objectives: the labels, the loss, the metrics and the predictions of one head each."""
