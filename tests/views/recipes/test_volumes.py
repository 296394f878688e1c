"""The recipes volume_ct, volume_mr and volume_shape: what each of them changes, and what it leaves alone."""

import pytest
from pydantic import ValidationError

from medssl import plugins
from medssl.views.operations import AxisFlip, BiasField, BoxCrop, VolumeGeometry


def operations(name, **settings):
    module = plugins.find("views.recipes", name)
    return module.build(module.Config(**settings))


def test_only_mr_has_a_bias_field_and_shapes_have_geometry_only():
    assert any(isinstance(operation, BiasField) for operation in operations("volume_mr"))
    assert not any(isinstance(operation, BiasField) for operation in operations("volume_ct"))
    assert all(isinstance(operation, VolumeGeometry) for operation in operations("volume_shape"))


@pytest.mark.parametrize("name", ["volume_ct", "volume_mr", "volume_shape"])
def test_what_has_the_probability_0_is_left_out_and_the_crop_stays(name):
    model = plugins.find("views.recipes", name).Config
    none = operations(name, **{field: 0.0 for field in model.model_fields if field.endswith("_p")})
    assert [type(operation) for operation in none] == [BoxCrop]


@pytest.mark.parametrize("name", ["volume_ct", "volume_mr", "volume_shape"])
def test_each_axis_that_is_named_is_mirrored_and_no_other_one_can_be_named(name):
    flips = [operation for operation in operations(name, flip_axes=("front_back", "head_feet")) if isinstance(operation, AxisFlip)]
    assert [flip.axis for flip in flips] == ["front_back", "head_feet"]
    with pytest.raises(ValidationError, match="head_feet"):
        operations(name, flip_axes=("up_down",))
