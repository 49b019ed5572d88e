"""Training objectives: each a pure function from a batch to what the model is asked."""
