"""A task's program that ends as it is told, in the image that trainers run in.

python -m train_server.job write | read | skip | fail | fail-once | sleep | stubborn | fill [WORD…]
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

what, *words = sys.argv[1:]
home = Path(os.environ["WINDTUNNEL_HOME"])
print(f"{what} is told {words}")
if what == "write":
    (home / "runs" / "words").write_text(repr(words))
    (home / "tensorboard" / "words").write_text(repr(words))
elif what == "read":
    print("found", (home / "runs" / "words").read_text())
    print("data:", sorted(path.name for path in (home / "data").iterdir()))
    try:
        (home / "data" / "new").touch()
    except OSError as error:
        print("data is", error.strerror)
elif what == "skip":
    print("a warning", file=sys.stderr)
    print("there is nothing to do")
    sys.exit(99)
elif what == "fail":
    sys.exit("error: nothing can be done")
elif what == "fail-once":
    mark = home / "runs" / "failed"
    if not mark.exists():
        mark.touch()
        sys.exit("error: once")
elif what == "fill":  # in a process of its own, as trainers are
    sys.exit(subprocess.call([sys.executable, "-c", "bytearray(2**30)"]) and 1)
elif what in ("sleep", "stubborn"):
    if what == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(300)
