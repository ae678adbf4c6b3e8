"""TensorFlow Serving's API without its binary: `python -m serving.tfserving_embedded --port=8500 --rest_api_port=8501 …`."""

import logging
import os
import sys

from serving.tfserving_embedded.flags import parse_flags, version_text
from serving.tfserving_protos import messages_alone
from windtunnel.platform.child_processes import die_with_parent


def main() -> None:
    """Serve until SIGTERM, or until the parent process ends."""
    flags = parse_flags()
    if flags.version:
        print(version_text())
        return
    die_with_parent()
    with messages_alone():
        from serving.tfserving_embedded.server import run
    status = run(flags)
    # Not sys.exit: TensorFlow's threads continue while C++ destroys what they use, which occasionally ends in a segmentation fault.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
