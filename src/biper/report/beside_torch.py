"""A trained model in torch beside its packed file: the accuracy, the time and the size of both."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

import torch

from biper.data import load_dataset
from biper.data.transforms import normalize
from biper.measure.evaluation import evaluate, evaluate_packed
from biper.models.saved import load_model
from biper.nn import set_stage_
from biper.runtime.model import Model
from biper.runtime.timing import interleaved


@dataclass(frozen=True)
class ModelFigures:
    """What was measured of one form of a model.

    Attributes:
        accuracy: top-1 on the test images, 0 to 1.
        seconds: the median time of one image on one thread.
        file_bytes: the size of the file.
    """

    accuracy: float
    seconds: float
    file_bytes: int


def beside_torch(
    model_file: Path, packed_file: Path, *, data_dir: Path | None = None, seconds: float = 1.0
) -> tuple[ModelFigures, ModelFigures]:
    """Measure a saved model in torch, in stage 2 on the CPU, and its packed file.

    Args:
        model_file: a model that a run or `biper.save_model` wrote.
        packed_file: the packed file that `biper.export` made of it.
        data_dir: the folder of its data set.
        seconds: about how many seconds to time both, in turns.

    Returns:
        The figures of the model in torch, and those of the packed file.
    """
    model, info = load_model(model_file)
    set_stage_(model, "binary")
    packed, test = Model.load(packed_file), load_dataset(info.dataset, data_dir).split("test")
    scores = evaluate(model, test, info.mean, info.std), evaluate_packed(packed, test)
    image = normalize(test.first(1), info.mean, info.std)
    array, threads = image.contiguous().numpy(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            times = interleaved([lambda: model(image), lambda: packed(array)], seconds).seconds
    finally:
        torch.set_num_threads(threads)
    files = model_file, packed_file
    real, bits = (
        ModelFigures(score.accuracy, statistics.median(spent), file.stat().st_size)
        for score, spent, file in zip(scores, times, files, strict=True)
    )
    return real, bits
