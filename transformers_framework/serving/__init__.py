"""What others use a trained model by: predictions of rows, embeddings."""
