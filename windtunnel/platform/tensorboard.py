"""Run TensorBoard without TensorFlow: `python -m windtunnel.platform.tensorboard FLAGS`.

TensorBoard imports TensorFlow if it is installed. That takes half a gigabyte of memory and some seconds, and is not needed to write or
show scalars.
"""

import sys
from types import ModuleType


def leave_tensorflow_out() -> None:
    """Make TensorBoard use its own stub of TensorFlow: `tensorboard/compat/__init__.py` does so if a module of this name exists."""
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))


if __name__ == "__main__":
    leave_tensorflow_out()
    from tensorboard.main import run_main

    run_main()
