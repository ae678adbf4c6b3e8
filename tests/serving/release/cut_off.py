"""`cut_off.py NAME NUMBER`: releases that end as by `kill -9` after one of their steps, one for each line of its input, which says after
which step. Answers each with a line of JSON: `status`, as of `os.waitstatus_to_exitcode`, and the `steps` that it took.

It forks for each, to import everything once; nothing has a thread or a connection before.
"""

import json
import os
import signal
import sys

from serving.release import audit, golden, release
from serving.release.release import Cause, Release
from windtunnel.aliases import Aliases
from windtunnel.settings import load_settings


class Cuts:
    """Counts steps, and kills this process after the `last`."""

    def __init__(self, last, report):
        self.last, self.report, self.taken = last, report, 0

    def after(self, owner, step):
        """Count a step each time that this attribute of `owner` has been called."""
        whole = getattr(owner, step)

        def counted(*arguments, **options):
            result = whole(*arguments, **options)
            if "GET" in arguments:  # a question to a server: what there is, is what the step before has left
                return result
            self.taken += 1
            os.write(self.report, f"{step} ".encode())
            if self.taken == self.last:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, step, counted)


def promote(name, number, cuts):
    releases = Release(load_settings(), name)
    cuts.after(Aliases, "move")
    cuts.after(audit, "note")
    cuts.after(golden, "verify")
    cuts.after(release, "verify")
    for step in ("publish", "promote", "withdraw", "_manage", "_register", "_change", "_load"):
        if hasattr(type(releases.server), step):
            cuts.after(type(releases.server), step)
    releases.promote(number, Cause("a test", "to be cut off"))


for line in sys.stdin:
    steps, report = os.pipe()
    if (child := os.fork()) == 0:
        try:
            promote(sys.argv[1], int(sys.argv[2]), Cuts(int(line), report))
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    os.close(report)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with open(steps) as taken:
        print(json.dumps({"status": status, "steps": taken.read().split()}), flush=True)
