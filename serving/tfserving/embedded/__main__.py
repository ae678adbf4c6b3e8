"""TensorFlow Serving's API without its binary: `python -m serving.tfserving.embedded --port=8500 --rest_api_port=8501 …`."""

import logging
import os
import sys

from serving.tfserving.embedded.flags import parse_flags, version_text
from serving.tfserving.protos import messages_alone
from windtunnel.process import die_with_parent


def main() -> None:
    """Serve until a SIGTERM, or until the parent ends."""
    flags = parse_flags()
    if flags.version:
        print(version_text())
        return
    die_with_parent()
    with messages_alone():
        from serving.tfserving.embedded.program import run
    status = run(flags)
    # Not sys.exit: TensorFlow's threads go on while C++ destroys what they use, and now and then one ends in a segmentation fault.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
