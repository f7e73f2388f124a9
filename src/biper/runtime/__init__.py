"""What a deployed model needs: NumPy and the native extension, never torch."""

from biper.runtime.model import Model, Prediction

__all__ = ["Model", "Prediction"]
