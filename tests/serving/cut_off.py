"""`cut_off.py NAME NUMBER STEP`: a release that ends as by `kill -9` after its STEPth step. Prints the steps it takes."""

import os
import signal
import sys

from serving import audit, golden, release
from serving.release import Cause, Release
from windtunnel.aliases import Aliases
from windtunnel.settings import load_settings

name, number, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
taken = 0


def cut(owner, step):
    whole = getattr(owner, step)

    def after(*arguments, **options):
        global taken
        result = whole(*arguments, **options)
        taken += 1
        print(taken, step, flush=True)
        if taken == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, step, after)


releases = Release(load_settings(), name)
cut(Aliases, "move")
cut(audit, "note")
cut(golden, "verify")
cut(release, "verify_version")
for step in ("publish", "ready", "promote", "withdraw", "_manage", "_register", "_change", "_load"):
    if hasattr(type(releases.server), step):
        cut(type(releases.server), step)
releases.promote(number, Cause("a test", "to be cut off"))
