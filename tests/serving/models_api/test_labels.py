"""The names that the page Models gives to labels."""

import pytest

from serving.models_api.labels import called, words_served
from serving.release.release import local_copy
from windtunnel.data.datasets import KNOWN, class_names
from windtunnel.files import write_json
from windtunnel.manifest import MANIFEST
from windtunnel.settings import Settings

NAME = "lenet5-pytorch"


@pytest.mark.parametrize(("data", "ninth"), [("fashion_mnist", "ankle boot"), ("mnist", "9"), ("drawn", "9")])
def test_a_label_has_the_name_that_its_data_set_gives_it(tmp_path, data, ninth):
    settings = Settings(home=tmp_path)
    write_json(local_copy(settings, NAME, 3) / MANIFEST, {"dataset": {"name": data}})
    assert called(9, words_served(settings, NAME, 3)) == ninth


@pytest.mark.parametrize("manifest", [None, [], {}, {"dataset": {"name": ["fashion_mnist"]}}])
def test_a_version_whose_data_set_is_not_known_has_numbers(tmp_path, manifest):
    settings = Settings(home=tmp_path)
    if manifest is not None:
        write_json(local_copy(settings, NAME, 3) / MANIFEST, manifest)
    assert words_served(settings, NAME, 3) is None


def test_every_class_of_a_data_set_has_a_name_of_its_own():
    names = class_names("fashion_mnist")
    assert len(set(names)) == 10
    assert KNOWN["mnist"].classes == ()
