"""Names for the versions of tests."""

import pytest

from train_server.lenet5.model import LENET5


@pytest.fixture(scope="module")
def any_name():
    """Declares every name as one of LeNet-5, so that a test can serve its versions under a name of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("windtunnel.model.find_registered", lambda name: (LENET5, LENET5.frameworks[0]))
        yield
