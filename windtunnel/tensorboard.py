"""TensorBoard without TensorFlow: `python -m windtunnel.tensorboard FLAGS`.

TensorBoard imports TensorFlow wherever it is installed, for half a gigabyte of memory and some seconds of start, and needs
nothing of it to show scalars. Where the import fails it uses stubs of its own.
"""

import sys

if __name__ == "__main__":
    sys.modules["tensorflow"] = None  # type: ignore[assignment]  # an import of it now fails
    from tensorboard.main import run_main

    run_main()
