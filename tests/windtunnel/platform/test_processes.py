"""The processes of a platform, some of which end while they are looked at."""

import psutil

from windtunnel.platform.processes import running


def test_a_process_that_ends_while_it_is_looked_at_is_passed_over(monkeypatch, tmp_path):
    def environ(process):
        raise FileNotFoundError(2, "No such file or directory", f"/proc/{process.pid}/environ")  # as psutil lets it through

    monkeypatch.setattr(psutil.Process, "environ", environ)
    assert running(tmp_path) == {}
