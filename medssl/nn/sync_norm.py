"""Batch normalisation over the whole batch of all devices, on CPUs too, where torch's SyncBatchNorm refuses to work."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medssl.nn.gather import devices, total
from medssl.nn.losses import to_float32


class SyncNorm(nn.Module):
    """Takes over the parameters and running statistics of a batch normalisation, under the same names."""

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> None:
        super().__init__()
        assert norm.momentum is not None
        self.eps, self.momentum = norm.eps, norm.momentum
        for name in ("weight", "bias"):
            self.register_parameter(name, getattr(norm, name))
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))
        self.train(norm.training)

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        if not self.training:
            return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        axes = [0, *range(2, x.ndim)]
        shape = [1, -1] + [1] * (x.ndim - 2)
        full = to_float32(x)  # statistics of bfloat16 are float32, as torch's
        mean = total(full.mean(axes)) / devices()  # devices have equally many samples
        centred = full - mean.reshape(shape)
        variance = total(centred.square().mean(axes)) / devices()
        with torch.no_grad():
            n = devices() * x.numel() / x.shape[1]
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = torch.rsqrt(variance + self.eps) * (1 if self.weight is None else self.weight)
        return (centred * scale.reshape(shape) + (0 if self.bias is None else self.bias.reshape(shape))).to(x.dtype)


def synchronise_norms(module: nn.Module) -> nn.Module:
    """The module with every batch normalisation replaced by one over all devices. Raises ValueError for a kind that is not known."""
    if any(p.is_cuda for p in module.parameters()):
        from timm.layers.norm_act import convert_sync_batchnorm  # torch's own, and timm's normalisations with an activation

        return convert_sync_batchnorm(module)
    if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
        return SyncNorm(module)  # pyright: ignore[reportArgumentType]
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        raise ValueError(f"{type(module).__name__} cannot be synchronised between processes on CPUs")
    for name, child in module.named_children():
        setattr(module, name, synchronise_norms(child))
    return module
