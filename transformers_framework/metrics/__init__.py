"""Metrics of whole data sets: functional cores in numpy, torchmetrics shells around them."""
