"""TensorBoard without TensorFlow: `python -m windtunnel.tensorboard FLAGS` serves it.

TensorBoard imports TensorFlow wherever it is installed, for half a gigabyte of memory and some seconds, and needs nothing of
it to write or show scalars.
"""

import sys
from types import ModuleType


def leave_tensorflow_out() -> None:
    """Have TensorBoard use its own stub of TensorFlow: the switch of `tensorboard/compat/__init__.py`, a module of this name."""
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))


if __name__ == "__main__":
    leave_tensorflow_out()
    from tensorboard.main import run_main

    run_main()
