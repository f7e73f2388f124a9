"""What a deployed model needs: NumPy and the native extension, never torch."""

from biper.runtime.model import Model, Prediction
from biper.runtime.pretrained import load_pretrained

__all__ = ["Model", "Prediction", "load_pretrained"]
