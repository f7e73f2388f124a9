"""New running statistics of batch norms, measured with the weights as they are now.

While a network trains, each batch norm keeps a running mean of the statistics of the last batches: of earlier weights,
in the arithmetic of training. The bits of a binary layer flip from step to step, and in bfloat16 other inputs lie at a
threshold than in float32, so these statistics do not quite fit the model that is saved. Measured anew, they do.

Source: Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018,
arXiv:1803.05407, which measures them anew for averaged weights.
"""

from __future__ import annotations

import itertools
import math
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from biper.data.batches import TrainingBatches
from biper.training.distributed.processes import Processes

DEFAULT_IMAGES = 5_000
"""How many training images the statistics are measured on, where a recipe does not say it."""


@torch.no_grad()
def measure_statistics_(
    module: nn.Module,
    batches: TrainingBatches,
    processes: Processes,
    *,
    stage: int,
    epoch: int,
    images: int = DEFAULT_IMAGES,
    mixed: bool,
) -> None:
    """Set the running mean and variance of each batch norm to the mean of those of training batches, in place.

    A batch norm's ``running_mean`` becomes the mean over batches of the mean of its inputs, and its ``running_var`` the
    mean over batches of their unbiased variance, both by channel. The batch norms normalize with the statistics of the
    batch meanwhile; all other layers compute as in evaluation. Weights stay as they are. A batch norm that keeps no
    running statistics is left alone.

    Args:
        module: the network, on its device.
        batches: the training batches, augmented as in training.
        processes: the processes that train together; all get the statistics of process 0.
        stage: the stage whose batches are taken, 1 or 2.
        epoch: the epoch whose first batches are taken, counted from 0.
        images: how many images to take, rounded up to whole batches; all of an epoch where it has fewer.
        mixed: whether to compute in the precision of training, or in the precision of the weights.
    """
    norms = [each for each in module.modules() if isinstance(each, _BatchNorm) and each.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    was_training = module.training
    dtype = next(module.parameters()).dtype
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    count = math.ceil(images / batches.settings.batch_size)
    try:
        for number, (inputs, _) in enumerate(itertools.islice(batches.epoch(stage, epoch), count), 1):
            for norm in norms:
                norm.momentum = 1 / number
            with processes.fabric.autocast() if mixed else nullcontext():
                module(inputs.to(dtype))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        module.train(was_training)
    processes.share_buffers_(module)
