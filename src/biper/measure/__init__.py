"""What can be measured of a model: accuracy, quantization error, signs, flips, activations, predictions and size."""
