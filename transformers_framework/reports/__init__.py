"""What a run shows on the terminal and leaves for its readers."""
