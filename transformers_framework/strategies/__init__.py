"""Lightning's strategies, sharded ones among them, and their checkpoints."""
