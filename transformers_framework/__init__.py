"""Pre-training and fine-tuning of encoder and encoder-decoder transformers from one command line."""

__version__ = "0.1.0"
