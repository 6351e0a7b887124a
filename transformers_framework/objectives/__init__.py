"""What is learned: labels, loss, metrics and predictions of one head each."""
