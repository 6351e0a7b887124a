"""Callbacks of Lightning: checkpoints, exports, predictions, checks while training, progress."""
