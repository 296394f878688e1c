"""The chest X-ray recipe does what suits radiographs and nothing else."""

import numpy as np
import pytest
from pydantic import ValidationError

from medssl.views import executors
from medssl.views.operations import ColourJitter, CutOut, Greyscale, HorizontalFlip, ResizedCrop, Rotation, VerticalFlip
from medssl.views.recipes import chest_xray


def test_no_mirror_image_no_colour_and_no_cut_out_by_default() -> None:
    kinds = {type(operation) for operation in chest_xray.build(chest_xray.Config())}
    assert kinds.isdisjoint({HorizontalFlip, VerticalFlip, ColourJitter, Greyscale, CutOut})
    assert {ResizedCrop, Rotation} <= kinds


def test_geometry_comes_before_intensity() -> None:
    kinds = [type(operation) for operation in chest_xray.build(chest_xray.Config(cutout_p=0.5, flip_p=0.5))]
    assert kinds[:3] == [Rotation, ResizedCrop, HorizontalFlip]
    assert kinds[-1] is CutOut


def test_head_stays_above_abdomen() -> None:
    image = np.tile(np.linspace(0, 65535, 96).astype(np.uint16)[:, None], (1, 1, 96))  # dark at the top
    make = executors.make("auto", chest_xray.build(chest_xray.Config()), 64)
    for view in range(100):
        picture = make(image, (0, 0, 0, view))[0]
        assert picture[:16, 16:48].mean() < picture[-16:, 16:48].mean()


def test_the_heart_stays_on_its_side() -> None:
    image = np.tile(np.linspace(0, 65535, 96).astype(np.uint16)[None, None], (1, 96, 1))  # dark on the left
    make = executors.make("auto", chest_xray.build(chest_xray.Config()), 64)
    for view in range(100):
        picture = make(image, (0, 0, 0, view))[0]
        assert picture[16:48, :16].mean() < picture[16:48, -16:].mean()


def test_an_operation_with_p_0_is_left_out() -> None:
    assert Rotation not in {type(operation) for operation in chest_xray.build(chest_xray.Config(rotation_p=0))}


@pytest.mark.parametrize(
    "wrong",
    [{"crop_area": (1.0, 0.3)}, {"crop_area": (0.0, 1.0)}, {"crop_area": (0.3, 1.1)}, {"flip_p": 1.5}, {"gamma": (0, 1)}, {"hue": 0.1}],
    ids=str,
)
def test_impossible_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        chest_xray.Config.model_validate(wrong)
