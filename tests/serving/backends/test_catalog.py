import pytest

from serving.backends.catalog import connect, find_server, server_of
from tests.extension import installed
from windtunnel.backend import backends
from windtunnel.errors import WindtunnelError
from windtunnel.model import models
from windtunnel.settings import Settings


def test_a_registered_model_is_served_by_the_backend_that_its_framework_declares():
    assert [server_of(f"lenet5-{name}") for name in ("libtorch", "pytorch", "tensorflow", "native")] == [
        *("torchserve", "torchserve", "tfserving", "torchserve")
    ]
    assert server_of("speech-commands") == "speech"


def test_every_declared_backend_can_be_connected(tmp_path):
    used = {framework.backend for model in models().values() for framework in model.frameworks}
    assert used == set(backends())
    assert [connect(name, Settings(home=tmp_path)).name for name in backends()] == list(backends())


@pytest.mark.usefixtures("extension")
def test_models_of_other_packages_have_a_server():
    assert [server_of("lenet5-numpy"), server_of("blobs-numpy")] == ["torchserve", "torchserve"]


def test_a_client_that_cannot_be_imported_is_named(tmp_path):
    says = r"extension:Nothing, which mute declares, cannot be loaded \(.*\)\. Repair the package"
    with installed(tmp_path / "extension", "[windtunnel.backends]\nmute = extension:MUTE"), pytest.raises(WindtunnelError, match=says):
        connect("mute", Settings(home=tmp_path))


def test_other_names_have_none(tmp_path):
    assert find_server("cats-pytorch") is None
    with pytest.raises(WindtunnelError, match="'cats-pytorch' is not a registered model: no installed package declares it"):
        server_of("cats-pytorch")
    with pytest.raises(WindtunnelError, match="server 'triton' is unknown: expected one of speech, tfserving, torchserve"):
        connect("triton", Settings(home=tmp_path))
