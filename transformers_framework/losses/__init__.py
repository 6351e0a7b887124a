"""Loss functions that return the sum of the losses of a batch."""
