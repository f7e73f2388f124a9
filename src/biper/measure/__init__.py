"""Measurements of a model: accuracy, quantization error, signs and their changes, activations, predictions, size."""
