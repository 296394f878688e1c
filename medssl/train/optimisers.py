"""Optimisers and the learning rate schedule. Biases and normalisation parameters have no weight decay, and no adaptation by LARS."""

import math
from typing import Any

import torch
from torch import nn

MOMENTUM = 0.9


def parameter_groups(module: nn.Module, weight_decay: float, without: nn.Module | None = None) -> list[dict[str, Any]]:
    """Two groups: weights with decay; biases and normalisation parameters (one dimension) without. `without`: a part of the module whose
    parameters are in neither."""
    others = {id(p) for p in without.parameters()} if without is not None else ()
    trained = [p for p in module.parameters() if p.requires_grad and id(p) not in others]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def encoder_rate_groups(method: nn.Module, weight_decay: float, encoder_rate: float) -> list[dict[str, Any]]:
    """Those of `parameter_groups`; with an `encoder_rate` other than 1, those of the method's encoder have that share of the learning rate,
    and those of its heads the whole. The loop multiplies the learning rate by a group's "lr_scale"."""
    if encoder_rate == 1:
        return parameter_groups(method, weight_decay)
    encoder: Any = method.encoder
    slow = [{**group, "lr_scale": encoder_rate} for group in parameter_groups(encoder, weight_decay)]
    return slow + parameter_groups(method, weight_decay, without=encoder)


def layer_decay_groups(backbone: nn.Module, head: nn.Module, weight_decay: float, decay: float) -> list[dict[str, Any]]:
    """Parameter groups with layer-wise learning rate decay (BEiT, Bao et al. 2022). The head has the full learning rate, the last layer
    of the backbone `decay` times that rate, the layer before it `decay` squared, and so on. timm's networks define their layers; any
    other network counts as one layer.

    The loop multiplies the learning rate by a group's "lr_scale".
    """
    if decay == 1 or not hasattr(backbone, "group_matcher"):
        return [{**g, "lr_scale": decay} for g in parameter_groups(backbone, weight_decay)] + parameter_groups(head, weight_decay)
    from timm.optim._param_groups import param_groups_layer_decay

    layers = param_groups_layer_decay(backbone, weight_decay, layer_decay=decay)
    top = max(group["lr_scale"] for group in layers)
    return [{**g, "lr_scale": g["lr_scale"] / top * decay} for g in layers] + parameter_groups(head, weight_decay)


def make(name: str, module: nn.Module, lr: float, weight_decay: float, groups: list[dict[str, Any]] | None = None) -> torch.optim.Optimizer:
    """AdamW, SGD with momentum 0.9, or LARS (You et al. 2017). `groups`: parameter groups, if not those of `parameter_groups`.

    Here LARS always adapts the learning rate of weights; biases and normalisation parameters take plain SGD steps. timm's default adapts
    only groups with a weight decay, so LARS without weight decay would be SGD.
    """
    groups = groups or parameter_groups(module, weight_decay)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, fused=True)
    if name == "sgd":
        on_gpu = any(p.is_cuda for group in groups for p in group["params"])  # fused, it obeys a flag on the device
        return _with_momentum(torch.optim.SGD(groups, lr=lr, momentum=MOMENTUM, fused=on_gpu or None))
    from timm.optim.lars import Lars

    groups = [{**group, "always_adapt": all(p.ndim > 1 for p in group["params"])} for group in groups]
    lars = Lars(groups, lr=lr, momentum=MOMENTUM, trust_coeff=0.001)  # pyright: ignore[reportArgumentType] - timm says int
    return _with_momentum(lars)


def _with_momentum(optimiser: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """On a GPU its momentum is there from the start, as zeros, which the first step makes the gradient. Else a first step that must not be
    applied would leave whatever is in the memory, or NaN (`bad_steps.py`)."""
    for p in (p for group in optimiser.param_groups for p in group["params"] if p.is_cuda):
        optimiser.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return optimiser


def restore(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the state of a checkpoint. Whether the step is fused is the device's, not the checkpoint's."""
    fused = [group.get("fused") for group in optimiser.param_groups]
    optimiser.load_state_dict(state)
    for group, here in zip(optimiser.param_groups, fused, strict=True):
        if "fused" in group:
            group["fused"] = here


def lr_at(step: int, *, base: float, warmup: int, total: int) -> float:
    """Linear warm-up over `warmup` steps, then half a cosine to zero at `total` (Loshchilov and Hutter 2017). `step` counts from 0."""
    if step < warmup:
        return base * (step + 1) / warmup
    return base * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))) / 2
