"""Stream of batches, model, objectives, training, evaluation."""
