"""Loggers of a run: TensorBoard, CSV, Weights & Biases and MLflow."""
