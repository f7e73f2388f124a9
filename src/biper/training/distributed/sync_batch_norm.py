"""Batch norms that take the mean and the variance of a batch over all processes."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm


def synchronize_batch_norms_(model: nn.Module, device: torch.device, process_group: Any) -> None:
    """Let each batch norm of a model take its statistics over all processes of a group, in place.

    The batch norms keep their parameters and buffers. On a GPU `torch.nn.SyncBatchNorm` computes the statistics. It
    does not work on a CPU; there `_SyncBatchNorm` computes the same.

    Args:
        model: the network.
        device: where the network is.
        process_group: the process group of torch.distributed.
    """
    if device.type != "cpu":
        convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm
        convert(model, process_group)
        return
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                parent.add_module(name, _SyncBatchNorm(child, process_group))


class _SyncBatchNorm(_BatchNorm):
    """A batch norm over the inputs (N, C, ...) of all processes.

    Args:
        norm: the batch norm whose parameters and buffers this one takes over.
        process_group: the process group of torch.distributed.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: _BatchNorm, process_group: Any) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.process_group = process_group
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            setattr(self, name, getattr(norm, name))
        self.train(norm.training)

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept every input with channels."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            evaluated: Tensor = super().forward(x)
            return evaluated
        apply: Any = _Normalize.apply
        y, mean, variance, count = apply(x, self.weight, self.bias, self.eps, self.process_group)
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1 / self.num_batches_tracked.item()
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), momentum)
        return cast(Tensor, y)


class _Normalize(torch.autograd.Function):
    """``y = weight (x - mean) / sqrt(variance + eps) + bias`` for the n values of a channel in all processes.

    ``mean`` is their mean and ``variance`` their mean squared distance from it. With ``g`` the incoming gradient,
    ``h`` the normalized input and sums over all processes, ``dx = weight / sqrt(variance + eps) (g - sum(g) / n -
    h sum(g h) / n)``; ``dweight = sum(g h)`` and ``dbias = sum(g)`` over this process alone, as for any parameter
    whose gradients are then averaged.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, group: Any
    ) -> tuple[Tensor, Tensor, Tensor, float]:
        ctx.axes = [0, *range(2, x.dim())]
        ctx.shape = [1, -1, *[1] * (x.dim() - 2)]
        ctx.group = group
        values = x.to(weight.dtype)
        total = torch.cat([values.sum(ctx.axes), values.new_tensor([values[:, 0].numel()])])
        torch.distributed.all_reduce(total, group=group)
        count = total[-1].item()
        mean = total[:-1] / count
        normalized = values - mean.view(ctx.shape)
        variance = normalized.square().sum(ctx.axes)
        torch.distributed.all_reduce(variance, group=group)
        variance /= count
        inverse = (variance + eps).rsqrt()
        normalized *= inverse.view(ctx.shape)
        ctx.save_for_backward(normalized, weight, inverse)
        ctx.count = count
        ctx.mark_non_differentiable(mean, variance)
        y = torch.addcmul(bias.view(ctx.shape), normalized, weight.view(ctx.shape))
        return y.to(x.dtype), mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        normalized, weight, inverse = ctx.saved_tensors
        g = grad.to(weight.dtype)
        local = torch.stack([g.sum(ctx.axes), (g * normalized).sum(ctx.axes)])
        total = local.clone()
        torch.distributed.all_reduce(total, group=ctx.group)
        mean_g, mean_gh = (part.view(ctx.shape) for part in total / ctx.count)
        grad_x = (weight * inverse).view(ctx.shape) * (g - mean_g - normalized * mean_gh)
        return grad_x.to(grad.dtype), local[1], local[0], None, None
