"""Running packed models. This package needs NumPy and, for speed, the native extension; it never imports torch."""

from biper.io.preprocessing import Preprocessing
from biper.runtime.maps import PredictedMap
from biper.runtime.model import Model, Prediction
from biper.runtime.pretrained import load_pretrained

__all__ = ["Model", "PredictedMap", "Prediction", "Preprocessing", "load_pretrained"]
