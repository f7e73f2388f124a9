"""Which way the steps of a stage are taken: see `biper.training.steps` and `biper.training.recorded`."""

from __future__ import annotations

import torch

from biper.training.options import RunOptions
from biper.training.progress import Progress
from biper.training.recorded import CudaGraphs, Recorded, prepare_, why_not_recorded
from biper.training.step import TrainingStep
from biper.training.steps import LateSteps, PromptSteps, Steps, reads_late


def make_steps(step: TrainingStep, optimizer: torch.optim.Optimizer, options: RunOptions, progress: Progress) -> Steps:
    """The steps of a stage: on a GPU without waiting for it, and recorded where the options ask for it.

    Args:
        step: computes the gradient of a batch.
        optimizer: of the stage, with its restored state.
        options: say whether to record.
        progress: shows why steps that should be recorded are not.
    """
    device = step.processes.fabric.device
    recorder = None
    if options.cuda_graphs:
        reason = why_not_recorded(step.module, device, processes=step.processes.count, scales_loss=step.scales_loss)
        if reason is None:
            prepare_(step.module, optimizer, device)
            recorder = Recorded.by(CudaGraphs(), progress.message)
        else:
            progress.message(f"training steps are not recorded as CUDA graphs: {reason}")
    if recorder is not None or reads_late(device):
        return LateSteps(step, optimizer, device, recorder)
    return PromptSteps(step, optimizer)
