"""Views of whole batches with torch: each one by its key alone, nothing that waits for the device, the definitions of other libraries."""

import pickle

import cv2
import numpy as np
import pytest
import torch
from fake_cuda import pretended_gpu
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as torchvision

from medssl.data.phantom import radiograph
from medssl.views import geometry, intensity
from medssl.views.operations import (
    Blur,
    BrightnessContrast,
    ColourJitter,
    CutOut,
    Gamma,
    Greyscale,
    HorizontalFlip,
    Noise,
    Operation,
    ResizedCrop,
    Rotation,
    VerticalFlip,
)
from medssl.views.torch_executor import ViewMaker

EVERY: list[Operation] = [
    Noise((0.01, 0.05), 0.5),
    VerticalFlip(0.5),
    ResizedCrop((0.3, 1.0), (0.75, 4 / 3)),
    Rotation(10, 0.7),
    HorizontalFlip(0.5),
    BrightnessContrast(0.5, 0.5, 0.5),
    Gamma((0.5, 2.0), 0.5),
    Blur((0.01, 0.1), 0.5),
    CutOut((0.1, 0.3), 0.5),
    ColourJitter(0.4, 0.4, 0.4, 0.1, 0.8),
    Greyscale(0.2),
]
IMAGES = torch.randint(0, 256, (64, 3, 40, 36), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
ROWS = torch.arange(64) + 1000


@pytest.mark.parametrize(
    "operations", [EVERY, [Blur((0.01, 0.1), 1.0)], [ResizedCrop((0.1, 0.4), (0.5, 2.0))]], ids=["all", "blur", "crop"]
)
def test_a_view_does_not_depend_on_the_rest_of_its_batch(operations: list[Operation]) -> None:
    make = ViewMaker(operations, 24)
    whole = make.batch(IMAGES, ROWS, 5, 1, 0)
    halves = [make.batch(IMAGES[part], ROWS[part], 5, 1, 0) for part in (slice(32), slice(32, 64))]
    torch.testing.assert_close(torch.cat(halves), whole, rtol=0, atol=1e-6)
    order = torch.arange(63, -1, -1)
    torch.testing.assert_close(make.batch(IMAGES[order], ROWS[order], 5, 1, 0), whole[order], rtol=0, atol=1e-6)


def test_one_image_by_itself_has_the_view_of_its_batch() -> None:
    make = pickle.loads(pickle.dumps(ViewMaker(EVERY, 24)))  # noqa: S301 - as a worker that was spawned gets it
    whole = ViewMaker(EVERY, 24).batch(IMAGES, ROWS, 5, 1, 3)
    for i in (0, 1, 63):
        np.testing.assert_allclose(make(IMAGES[i].numpy(), (1, 5, 1000 + i, 3)), whole[i].numpy(), rtol=0, atol=1e-6)


def test_seed_step_row_and_view_each_give_other_views() -> None:
    make = ViewMaker(EVERY, 24)
    first = make.batch(IMAGES, ROWS, 5, 1, 0)
    for other in (make.batch(IMAGES, ROWS, 5, 1, 1), make.batch(IMAGES, ROWS, 6, 1, 0), make.batch(IMAGES, ROWS, 5, 2, 0)):
        assert ((other - first).abs().mean((1, 2, 3)) > 0.01).all()
    assert ((make.batch(IMAGES, ROWS + 1, 5, 1, 0) - first).abs().mean((1, 2, 3)) > 0.01).all()


def test_nothing_waits_for_the_device_and_everything_lies_on_it() -> None:
    """On a pretended GPU, a value that is read back, a shape that depends on one and a tensor on another device are errors."""
    with pretended_gpu() as gpu:
        for dtype in (torch.uint8, torch.uint16):
            images = torch.empty(8, 3, 40, 36, dtype=dtype, device="cuda")
            views = ViewMaker(EVERY, 24).batch(images, torch.arange(8), 5, 1, 0)
            assert views.device.type == "cuda"
            assert views.shape == (8, 3, 24, 24)
    assert gpu.waits == []


@pytest.mark.slow
def test_a_whole_batch_is_one_graph_for_torch_compile() -> None:
    make = ViewMaker(EVERY, 24)
    plain = make.batch(IMAGES, ROWS, 5, 1, 0)
    graphs = CompileCounterWithBackend("eager")
    make._views = torch.compile(make._views, fullgraph=True, backend=graphs, dynamic=False)
    torch.testing.assert_close(make.batch(IMAGES, ROWS, 5, 1, 0), plain, rtol=0, atol=1e-5)
    make.batch(IMAGES, ROWS, 6, 1, 0)
    assert graphs.frame_count == 1


def test_a_caller_that_computes_in_bfloat16_gets_the_same_views() -> None:
    make = ViewMaker(EVERY, 24)
    with torch.autocast("cpu", torch.bfloat16):
        inside = make.batch(IMAGES, ROWS, 5, 1, 0)
    torch.testing.assert_close(inside, make.batch(IMAGES, ROWS, 5, 1, 0), rtol=0, atol=1e-6)


def chest(height: int, width: int) -> torch.Tensor:
    """A radiograph, float32 [1, 1, height, width] in [0.1, 1]: nowhere black."""
    return 0.1 + 0.9 * torch.from_numpy(radiograph((1,), 1, max(height, width), lesion=False))[None, None, :height, :width]


def drawn(*numbers: float) -> torch.Tensor:
    """What an operation of one image chooses by."""
    return torch.tensor([[*numbers, *(0.5,) * (geometry.NUMBERS - len(numbers))]])


def sampled(images: torch.Tensor, moves: geometry.Moves, size: int) -> torch.Tensor:
    return geometry.sample(images, *geometry.places(moves, (images.shape[2], images.shape[3]), size))


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("shrink", [2, 3])
def test_shrinking_by_a_whole_number_is_the_mean_of_squares(shrink: int) -> None:
    images = torch.randint(0, 256, (2, 1, 24 * shrink, 24 * shrink), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    views = ViewMaker([], 24).batch(images, ROWS[:2], 0, 0, 0)
    torch.testing.assert_close(views, F.avg_pool2d(images.float() / 255, shrink), rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("area", "size", "how", "apart"), [((0.1, 0.4), 64, cv2.INTER_LINEAR, 1e-4), ((0.5, 1.0), 24, cv2.INTER_AREA, 0.01)]
)
def test_a_crop_has_the_pixels_that_OpenCV_gives_its_box(area: tuple[float, float], size: int, how: int, apart: float, seed: int) -> None:
    """Enlarged it is the same, its border included; shrunk by 1.5 to 2.7 it is on average within 0.01 of the mean over squares."""
    image, crop = chest(64, 60), ResizedCrop(area, (0.75, 4 / 3))
    chosen = torch.rand(1, geometry.NUMBERS, generator=torch.Generator().manual_seed(seed))
    left, top, width, height = geometry.crop_box(chosen, crop, (64, 60))[:, 0].int().tolist()
    expected = cv2.resize(image[0, 0].numpy()[top : top + height, left : left + width], (size, size), interpolation=how)
    found = sampled(image, [(crop, chosen)], size)[0, 0].numpy()
    assert np.abs(found - expected).mean() < apart
    assert np.abs(found - expected).max() < 10 * apart


@pytest.mark.parametrize("degrees", [10, -37, 90])
def test_a_rotation_is_that_of_OpenCV_with_black_around(degrees: float) -> None:
    image = chest(48, 64)
    turn = cv2.getRotationMatrix2D((31.5, 23.5), degrees, 1)
    expected = cv2.warpAffine(image[0, 0].numpy(), turn, (64, 48))
    found = sampled(image, [(Rotation(abs(degrees), 1), drawn(0, float(degrees > 0)))], 64)[0, 0].numpy()
    assert np.abs(found - expected).mean() < 2e-3  # OpenCV rounds places to 1/32 of a pixel
    assert ((found == 0) == (expected == 0)).mean() > 0.99


def test_operations_that_follow_each_other_give_what_they_give_one_by_one() -> None:
    """On an image so smooth that the interpolations in between do no harm, and in any order."""
    y, x = torch.meshgrid(torch.linspace(0, 3, 64), torch.linspace(0, 3, 64), indexing="ij")
    image = (0.5 + 0.2 * x.sin() + 0.2 * (2 * y).cos())[None, None]
    moves = [
        (Rotation(20, 1), drawn(0, 0.9)),
        (ResizedCrop((0.5, 0.5), (0.8, 0.8)), drawn(*(0.3,) * geometry.NUMBERS)),
        (HorizontalFlip(1), drawn(0)),
    ]
    for order in (moves, moves[::-1], [moves[1], moves[0], moves[2]], [moves[1], moves[1]]):
        expected = image
        for move in order:
            expected = sampled(expected, [move], 64)
        difference = (sampled(image, order, 64) - expected).abs()
        assert difference.median() < 1e-3
        assert (difference > 0.02).float().mean() < 0.02  # along the black border


@pytest.mark.parametrize("sigma", [0.2, 0.3, 1.0, 2.6])
def test_a_blur_is_that_of_OpenCV(sigma: float) -> None:
    image = chest(40, 30)
    edge = 2 * int(3.5 * sigma) + 1
    expected = cv2.GaussianBlur(image[0, 0].numpy(), (edge, edge), sigma, borderType=cv2.BORDER_REFLECT_101)
    kernels = intensity.blur_kernels(torch.tensor([[sigma], [0.0]]), 3.0, (40, 30))
    found = intensity.blur(image.expand(2, 3, -1, -1), kernels)
    torch.testing.assert_close(found[0], torch.from_numpy(expected).expand(3, -1, -1), rtol=0, atol=1e-5)
    torch.testing.assert_close(found[1:], image.expand(1, 3, -1, -1), rtol=0, atol=0)  # of sigma 0: none


COLOURS = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(2))
JITTER = {
    0: lambda x: torchvision.adjust_brightness(x, 1.3),
    1: lambda x: torchvision.adjust_contrast(x, 0.6),
    2: lambda x: torchvision.adjust_saturation(x, 1.4),
    3: lambda x: torchvision.adjust_hue(x, -0.1),
}


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1), (1, 3, 0, 2)])
def test_colour_jitter_is_that_of_torchvision_in_the_order_of_each_image(order: tuple[int, ...]) -> None:
    expected = COLOURS
    for kind in order:
        expected = JITTER[kind](expected)
    orders, factors = torch.tensor([order, (0, 1, 3, 2)]), torch.tensor([[1.3, 0.6, 1.4], [1, 1, 1]])
    matrices = intensity.jitter_matrices(factors, orders, channels=3)
    found = intensity.colour_jitter(COLOURS.expand(2, -1, -1, -1), matrices, numbers(-0.1, 0))
    torch.testing.assert_close(found[:1], expected, rtol=0, atol=1e-4)  # torchvision rounds the weight of red to 0.2989
    torch.testing.assert_close(found[1:], COLOURS, rtol=0, atol=1e-5)


@pytest.mark.parametrize("turn", [-0.5, -0.2, 0.05, 0.4])
def test_a_turn_of_the_hue_is_that_of_torchvision(turn: float) -> None:
    torch.testing.assert_close(intensity.hue(COLOURS, numbers(turn)), torchvision.adjust_hue(COLOURS, turn), rtol=0, atol=1e-5)
    grey = COLOURS[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(intensity.hue(grey, numbers(turn)), grey, rtol=0, atol=0)


def test_noise_is_unrelated_to_its_strength() -> None:
    flat = torch.full((2000, 1, 8, 8), 32768, dtype=torch.uint16)
    noise = ViewMaker([Noise((0.01, 0.1), 1)], 8).batch(flat, torch.arange(2000), 0, 0, 0).flatten(1) - 32768 / 65535
    strength = noise.std(dim=1)
    for pixel in (*range(4), *range(32, 36)):  # the two halves are the sines and cosines of one draw
        pair = torch.stack(((noise[:, pixel] / strength).abs(), strength))
        assert pair.corrcoef()[0, 1].abs() < 4 / 2000**0.5
