from tests.serving.backends.conftest import any_name
from tests.serving.conftest import house

__all__ = ["any_name", "house"]
