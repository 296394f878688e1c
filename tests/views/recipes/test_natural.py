"""The recipe for photographs is SimCLR's in its form for small images."""

import numpy as np

from medssl.views import executors
from medssl.views.operations import Blur, ColourJitter, Greyscale, HorizontalFlip, ResizedCrop
from medssl.views.recipes import natural


def test_the_defaults_are_those_of_the_paper_at_colour_strength_one_half() -> None:
    assert natural.build(natural.Config()) == (
        ResizedCrop((0.2, 1.0), (3 / 4, 4 / 3)),
        HorizontalFlip(0.5),
        ColourJitter(0.8 * 0.5, 0.8 * 0.5, 0.8 * 0.5, 0.2 * 0.5, 0.8),
        Greyscale(0.2),
    )


def test_blur_is_off_for_small_images_and_can_be_had() -> None:
    assert isinstance(natural.build(natural.Config(blur_p=0.5))[-1], Blur)


def test_one_in_five_views_is_grey() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 32, 32), np.uint8)
    make = executors.make("auto", natural.build(natural.Config()), 32)
    grey = sum(len(np.unique(make(image, (0, 0, 0, view)), axis=0)) == 1 for view in range(300))
    assert 32 < grey < 88  # 60 +- 4 sigma


def test_grey_images_pass_without_a_warning() -> None:
    make = executors.make("auto", natural.build(natural.Config()), 28)
    for view in range(20):
        assert make(np.zeros((1, 28, 28), np.uint8), (0, 0, 0, view)).shape == (1, 28, 28)
