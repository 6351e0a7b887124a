"""Loss functions that return a sum and what to divide it by."""
