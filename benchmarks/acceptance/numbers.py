"""right: views, losses, gradients and look-ups of the device, beside the CPU in float32. Each row says whether the differences are within
the tolerance; the numbers are there to judge by."""

from typing import Any

import torch

from acceptance.record import Row
from acceptance.subjects import (
    NO_NOISE,
    SMALL,
    Setting,
    build_method,
    fixed_batch,
    full_float32,
    loss_and_gradient,
    noise_images,
    views_maker,
)
from medssl.nn import SupportSet, l2_normalize
from medssl.types import Rows

_LOSS, _GRADIENT = 1e-4, 1e-2  # largest relative differences in float32
_MORE_THAN_CPU = 2.0  # how much larger the error of bfloat16 may be on the device than on the CPU
_EXACT = 1e-4


def views(recipe: str, size: int, channels: int, bits: int, setting: Setting) -> Row:
    """The views of 64 images (8 in a tiny run), made on both devices."""
    images = torch.from_numpy(noise_images(8 if setting.tiny else 64, channels, size, bits))
    rows, make = torch.arange(len(images)), views_maker(recipe, size)
    of_cpu = torch.cat(make(images, rows, 3, 7))
    of_device = torch.cat(make(images.to(setting.device), rows, 3, 7)).cpu()
    difference = (of_cpu - of_device).abs()
    others = float((difference > 1e-3).double().mean())
    return {
        "largest_difference": float(difference.max()),
        "share_of_pixels_above_1e-3": others,
        "views_above_1e-2": int((difference.amax((1, 2, 3)) > 1e-2).sum()),
        "views": len(difference),
        "standard_deviation": float(of_device.std()),
        "ok": others <= 1e-3 and 0.05 < float(of_device.std()) < 0.5 and bool(torch.isfinite(of_device).all()),
    }


def losses(name: str, setting: Setting, **options: Any) -> Row:
    """Loss and gradient of a method's step. The error of bfloat16 is compared with the error that it has on the CPU."""
    options = {**NO_NOISE, **SMALL, **options}
    cpu, device = setting.on("cpu"), setting
    with full_float32():
        loss, gradient = _step(name, cpu, None, options)
        single = _errors(_step(name, device, None, options), loss, gradient)
    short_of_cpu = _errors(_step(name, cpu, torch.bfloat16, options), loss, gradient)
    short = _errors(_step(name, device, torch.bfloat16, options), loss, gradient)
    fits = single["loss"] <= _LOSS and single["gradient"] <= _GRADIENT
    fits_short = all(short[key] <= _MORE_THAN_CPU * short_of_cpu[key] + _GRADIENT for key in short)
    return {"loss": loss, "fp32": single, "bf16": short, "bf16_of_the_CPU": short_of_cpu, "ok": fits and fits_short}


def _step(name: str, setting: Setting, precision: torch.dtype | None, options: dict[str, Any]) -> tuple[float, torch.Tensor]:
    method = build_method(name, setting.resnet18, setting, **options)
    return loss_and_gradient(method, method, fixed_batch(method, setting), precision)


def _errors(found: tuple[float, torch.Tensor], loss: float, gradient: torch.Tensor) -> dict[str, float]:
    """Relative differences; absolute ones of losses that are smaller than 1, as SimSiam's is about 0 at the start."""
    return {"loss": abs(found[0] - loss) / max(1.0, abs(loss)), "gradient": float((found[1] - gradient).norm() / gradient.norm())}


def look_up(setting: Setting) -> Row:
    """The five nearest rows of a support set, beside the whole product in float64 on the CPU; then a push."""
    size, width, number = (2048, 32, 64) if setting.tiny else (65_536, 256, 512)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        support, z = SupportSet(size, width), l2_normalize(torch.randn(number, width))
    rows = support.rows.double()
    exact = (z.double() @ rows.T).topk(5, dim=1)
    support, tags = support.to(setting.device), torch.arange(4 * number, device=setting.device).reshape(number, 4)
    with full_float32():
        found = support.nearest(z.to(setting.device), tags, 5).cpu()
    scores = torch.einsum("bd,bkd->bk", z.double(), rows[found])
    before = support.rows.cpu()
    support.push(Rows(z.to(setting.device), tags))
    after = support.rows.cpu()
    pushed = torch.allclose(after[:number], z, atol=1e-6) and torch.equal(after[number:], before[number:])
    same, error = float((found[:, 0] == exact.indices[:, 0]).double().mean()), float((scores - exact.values).abs().max())
    return {"same_nearest": same, "largest_error_of_a_score": error, "pushed": pushed, "ok": pushed and same > 0.99 and error < _EXACT}
