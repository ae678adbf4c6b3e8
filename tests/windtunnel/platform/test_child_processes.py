import os
import signal
import subprocess
import sys
import time

import psutil

from tests.waiting import PATIENCE

PARENT = """
import subprocess, sys
from windtunnel.platform.child_processes import ending_with_parent
child = subprocess.Popen(ending_with_parent([sys.executable, "-c", "import time; time.sleep(600)"]))
print(child.pid, flush=True)
child.wait()
"""


def test_a_child_ends_when_its_parent_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        time.sleep(0.5)
        assert child.status() != psutil.STATUS_ZOMBIE
        os.kill(parent.pid, signal.SIGKILL)
        psutil.wait_procs([child], timeout=PATIENCE)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
