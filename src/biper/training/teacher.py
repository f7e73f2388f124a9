"""The teacher: a trained network whose answers another network learns from, beside the labels."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from biper.errors import CheckpointError, ModelError
from biper.io.container import container_format
from biper.io.files import read_regular
from biper.models.own import factory_of_run, require_outputs
from biper.models.saved import load_model
from biper.recipes.schema import TeacherRecipe
from biper.runs.folder import model_file_of
from biper.runs.records import TeacherResult
from biper.runtime import Model
from biper.runtime.pretrained import pretrained_file
from biper.runtime.program import FORMATS
from biper.training.images import RunImages
from biper.training.parts import RunParts


def teacher_file(path: Path) -> Path:
    """The file of a saved teacher: of a run folder ``model.safetensors``, of the name of a packaged model its file.

    Raises:
        CheckpointError: there is no such file or folder, and no packaged model has this name.
    """
    if path.exists() or path.suffix or len(path.parts) > 1:
        return model_file_of(path)
    try:
        return pretrained_file(str(path))
    except ModelError as error:
        raise CheckpointError(f"teacher: no file or folder {path}, and {error}") from error


def load_teacher(path: Path, parts: RunParts, images: RunImages) -> nn.Module:
    """Load a saved teacher, and check that it can teach on the images of a run.

    Args:
        path: a model file, a packed model, a run folder, or the name of a packaged model. A network of the user's own
            is made by the code that the recipe beside the file names, or else by that of the run.
        parts: the parts of the run.
        images: the images of the run.

    Raises:
        CheckpointError: the file is missing, corrupt or no model; or the teacher learned with another mean or standard
            deviation of pixels.
        ModelError: the teacher cannot compute these images, or does not have an output for each class.
    """
    file = teacher_file(path)
    module: nn.Module
    if container_format(file) in FORMATS:
        module = PackedNetwork(Model.load(file, threads=torch.get_num_threads()))
        mean, std = module.model.program.mean, module.model.program.std
    else:
        module, info = load_model(file, factory=factory_of_run(file) or parts.factory)
        mean, std = tuple(info.mean), tuple(info.std)
    spec = images.spec
    if (mean, std) != (tuple(spec.mean), tuple(spec.std)):
        raise CheckpointError(
            f"the teacher {file} expects pixels with mean {mean} and std {std}, but those of this run have mean "
            f"{spec.mean} and std {spec.std}"
        )
    try:
        require_outputs(module, images.examples(2), len(images.classes) or spec.num_classes)
    except ModelError as error:
        raise ModelError(f"the teacher {file}: {error}") from error
    return module


def digest(path: Path) -> str:
    """The SHA-256 of a saved teacher, in hexadecimal digits.

    Raises:
        CheckpointError: the file cannot be read.
    """
    file = teacher_file(path)
    try:
        return hashlib.sha256(read_regular(file)).hexdigest()
    except OSError as error:
        raise CheckpointError(f"the teacher {file} cannot be read: {error.strerror}") from error


class PackedNetwork(nn.Module):
    """A packed model as a network that answers on the CPU, without gradients.

    Its answers for an image are the same to the bit in every batch.

    Args:
        model: a packed model with one input and one result.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """The logits (N, classes) float32 of normalized images (N, C, H, W), on the device of the images.

        Raises:
            ModelError: the model has several results.
            DataError: the model takes images of another shape, or further inputs.
        """
        answers = self.model(images.detach().float().cpu().numpy())
        if isinstance(answers, dict):
            raise ModelError(f"the packed model has several results, {', '.join(answers)}; expected one")
        return torch.from_numpy(answers).to(images.device)


class Teacher:
    """A trained network and its part of the loss; see `biper.recipes.schema.TeacherRecipe` for the formula.

    Args:
        module: the trained network, in evaluation mode.
        settings: the share of the teacher in the loss, and the temperature.
        fabric: the device and the precision of training.
        dtype: the dtype of the images, and of the weights of the teacher.
        result: what the training of the teacher reached, where it belongs to the run.
    """

    def __init__(
        self,
        module: nn.Module,
        settings: TeacherRecipe,
        fabric: Fabric,
        dtype: torch.dtype,
        result: TeacherResult | None = None,
    ) -> None:
        self.module = module.requires_grad_(False).to(fabric.device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.settings, self.fabric, self.result = settings, fabric, result

    def loss(self, images: Tensor, logits: Tensor, own: Tensor) -> Tensor:
        """The loss of a network that learns from the teacher and from the labels.

        Args:
            images: (N, C, H, W) floating point, normalized.
            logits: what the network answers for these images, (N, classes).
            own: the cross-entropy of the network with the labels, a scalar.

        Returns:
            A scalar, differentiable in ``logits`` and ``own``.
        """
        share, temperature = self.settings.share, self.settings.temperature
        with torch.no_grad(), self.fabric.autocast():
            wanted = self.module(images)
        distance = F.kl_div(
            F.log_softmax(logits / temperature, 1),
            F.log_softmax(wanted.to(logits.dtype) / temperature, 1),
            reduction="batchmean",
            log_target=True,
        )
        return (1 - share) * own + share * temperature**2 * distance
