"""What happens around training: checkpoints, exports, predictions, guards, progress."""
