import numpy as np
import pytest
from PIL import Image

from medssl import plugins
from medssl.data.detect import detect
from medssl.errors import UserError


@pytest.mark.parametrize(
    ("data", "source"),
    [
        ("chestxray/nih_pneumonia_224", "folder"),
        ("chestxray/nih_pneumonia_224/labels.csv", "manifest"),
        ("medmnist/pneumoniamnist.npz", "medmnist"),
        ("bloodcells/bccd_cells_28.npz", "medmnist"),
        ("dicom/chest", "dicom"),
        ("dicom/wg04", "dicom"),
        ("bloodcells/images", "folder"),
    ],
)
def test_real_data_is_recognised_without_a_flag(shared_data, data, source):
    assert detect(str(shared_data / data)) == source


@pytest.mark.parametrize(
    ("data", "source"), [("phantom", "phantom"), ("medmnist:pneumoniamnist", "medmnist"), ("medmnist:x:64", "medmnist")]
)
def test_names_are_recognised_without_a_file(data, source):
    assert detect(data) == source


def test_exactly_one_source_claims_an_image_folder_besides_none_claims_nonsense(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    claims = {name for name in plugins.names("data.sources") if plugins.find("data.sources", name).recognises(str(tmp_path))}
    assert claims == {"folder"}


@pytest.mark.parametrize("data", ["", "nowhere/at/all", "~nobody-of-that-name/x", "nul\0byte"])
def test_what_does_not_exist_is_a_user_error_that_says_so(data):
    with pytest.raises(UserError, match="does not exist"):
        detect(data)
