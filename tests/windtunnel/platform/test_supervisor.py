"""The supervisor with processes that take no time to start."""

import os
import shutil
import signal
import stat
from contextlib import suppress

import psutil
import pytest

from tests.small_disk import mounted
from tests.waiting import wait_for
from windtunnel.backend import backends
from windtunnel.errors import WindtunnelError
from windtunnel.platform import lifecycle, supervisor
from windtunnel.platform.processes import running
from windtunnel.settings import Settings

pytestmark = pytest.mark.minutes(1)


@pytest.fixture
def supervise(tmp_path):
    """Starts a Procfile, and stops it when the test ends."""
    started = []

    def start(procfile, home="home"):
        (tmp_path / "Procfile").write_text(procfile)
        settings = Settings(root=tmp_path, home=tmp_path / home)
        settings.home.mkdir()
        started.append((settings, supervisor.start(settings)))
        return settings

    yield start
    for settings, process in started:
        lifecycle.down(settings)
        process.wait()
        assert running(settings.home) == {}


def found(settings, name):
    return next(process for process in lifecycle.status(settings) if process.name == name)


def all_up(settings):
    """Wait until every process is up, and is what it will be: on the way there it is Python, then a shell, and unknown as each begins."""

    def settled():
        now = lifecycle.status(settings)
        return all(process.up and (process.name == supervisor.SUPERVISOR or command(process.pid) == "sleep") for process in now)

    return wait_for(settled, explain=lambda: lifecycle.status(settings))


def command(pid):
    with suppress(psutil.Error):
        return psutil.Process(pid).name()


def is_up(settings, name, pid):
    """Wait until a process is up as another than `pid`."""
    return wait_for(lambda: (now := found(settings, name)).up and now.pid != pid and now)


def test_what_is_killed_is_started_again_and_the_others_stay(supervise):
    settings = supervise("killed: exec sleep 600\nother: exec sleep 600\n")
    all_up(settings)
    before = {process.name: process.pid for process in lifecycle.status(settings)}
    assert {process.restarts for process in lifecycle.status(settings)} == {0}
    os.kill(before["killed"], signal.SIGKILL)

    again = is_up(settings, "killed", before["killed"])
    assert again.restarts == 1
    assert again.restarted
    assert (found(settings, "other").pid, found(settings, "other").restarts) == (before["other"], 0)
    wait_for(lambda: "killed: start 2" in (settings.logs / "killed.log").read_text())


def test_what_a_killed_process_leaves_is_ended_before_it_is_started_again(supervise):
    settings = supervise("family: sleep 601 & exec sleep 600\n")
    all_up(settings)
    leader = found(settings, "family").pid
    child = wait_for(lambda: [process for process in running(settings.home)["family"] if process.pid != leader])[0]
    os.kill(leader, signal.SIGKILL)

    is_up(settings, "family", leader)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_what_a_killed_process_leaves_is_not_the_process(supervise):
    settings = supervise("family: sleep 601 & exec sleep 600\n")
    all_up(settings)
    os.kill(found(settings, "supervisor").pid, signal.SIGKILL)
    wait_for(lambda: not found(settings, "supervisor").up)
    assert found(settings, "family").up  # it goes on without

    os.kill(found(settings, "family").pid, signal.SIGKILL)
    wait_for(lambda: found(settings, "family").state == "down")
    assert len(running(settings.home)["family"]) == 1


def test_a_start_waits_for_a_supervisor_that_is_not_known_by_its_environment_yet(tmp_path):
    (tmp_path / "Procfile").write_text("other: exec sleep 600\n")
    settings = Settings(root=tmp_path, home=tmp_path / "home")
    settings.logs.mkdir(parents=True)
    supervisor.log_of(settings, supervisor.SUPERVISOR).write_text("of no use\n")
    ended = iter([False, True])
    with pytest.raises(WindtunnelError, match=r"supervisor ended while the platform was starting: see .*\nof no use"):
        lifecycle._wait(settings, print, lambda: next(ended))


def test_a_process_that_cannot_live_is_given_up_and_tried_again_on_demand(supervise, tmp_path):
    settings = supervise("dying: echo no such luck; test -e cured && exec sleep 600\nother: exec sleep 600\n")
    wait_for(lambda: found(settings, "dying").state == "restarting")
    wait_for(lambda: found(settings, "dying").state == "failed", explain=lambda: lifecycle.status(settings))
    assert found(settings, "dying").restarts == 4
    assert found(settings, "other").up
    log = (settings.logs / "dying.log").read_text()
    assert log.count("no such luck") == 5
    assert found(settings, "dying").log == str(settings.logs / "dying.log")

    (tmp_path / "cured").touch()
    assert lifecycle.up(settings)
    all_up(settings)
    assert found(settings, "other").restarts == 0
    assert not lifecycle.up(settings)


@pytest.fixture
def small_disk(tmp_path):
    with mounted(tmp_path / "disk", "1m") as disk:
        yield disk


def test_it_goes_on_if_the_disk_is_full_and_loses_what_cannot_be_written(small_disk, supervise, monkeypatch):
    monkeypatch.setattr("windtunnel.platform.home.ROOM", 0)  # MiB
    settings = supervise("dying: exec sleep 600\nchatty: while sleep 0.1; do seq 10000; done\n", "disk/home")
    wait_for(lambda: all(process.up for process in lifecycle.status(settings)))
    before = {process.name: process.pid for process in lifecycle.status(settings)}
    wait_for(lambda: shutil.disk_usage(small_disk).free == 0)
    os.kill(before.pop("dying"), signal.SIGKILL)  # it cannot be started, because its start cannot be noted
    wait_for(lambda: found(settings, "dying").state == "failed", explain=lambda: lifecycle.status(settings))
    assert {name: found(settings, name).pid for name in before} == before

    (settings.logs / "chatty.log").write_bytes(b"")
    assert lifecycle.up(settings)
    wait_for(lambda: found(settings, "dying").up)
    assert {name: found(settings, name).pid for name in before} == before


def test_up_names_what_it_cannot_repair_and_leaves_the_others_up(supervise):
    # The triggerer is up when its heart beats, and so never here; of others it is enough that they run, as this one does for a moment.
    settings = supervise("triggerer: echo no such luck; exit 7\nother: exec sleep 600\n")
    wait_for(lambda: found(settings, "triggerer").state == "failed")
    before = found(settings, "other").pid
    with pytest.raises(WindtunnelError, match="triggerer ended repeatedly") as error:
        lifecycle.up(settings)
    assert "no such luck" in str(error.value)
    assert (found(settings, "other").up, found(settings, "other").pid) == (True, before)


@pytest.mark.parametrize(
    "home", ["a b", "100%s", 'it\'s "q"; #1', "größe?", "x" * 150], ids=["space", "percent", "quotes", "other", "long"]
)
def test_the_home_may_have_any_name(supervise, home):
    settings = supervise('shows: echo "home is $WINDTUNNEL_HOME"; exec sleep 600\n', home)
    all_up(settings)
    wait_for(lambda: f"home is {settings.home}" in (settings.logs / "shows.log").read_text())
    assert supervisor.states(settings).keys() == {"shows"}


def test_the_control_interface_is_for_the_owner_alone(supervise):
    settings = supervise("steady: exec sleep 600\n")
    all_up(settings)
    sockets = [file for file in settings.home.rglob("*") if file.is_socket()]
    assert [stat.S_IMODE(file.stat().st_mode) for file in sockets] == [0o600]
    listening = [connection for process in running(settings.home)["supervisor"] for connection in process.net_connections("inet")]
    assert listening == []


def test_one_line_of_the_procfile_stands_for_all_model_servers(supervise):
    settings = supervise('steady: exec sleep 600\n{server}: echo "this is {server}"; exec sleep 600\n')
    assert wait_for(lambda: supervisor.states(settings)).keys() == {"steady", *backends()}
    for name in backends():
        wait_for(lambda name=name: f"this is {name}" in (settings.logs / f"{name}.log").read_text())
    assert found(settings, "torchserve").state == "starting", "it listens on none of its ports"


def test_logs_do_not_grow_for_ever(supervise, tmp_path):
    settings = supervise("talker: yes 'what it has to say' | head -c 45000000; touch said; exec sleep 600\n")
    wait_for((tmp_path / "said").exists)
    sizes = [file.stat().st_size for file in settings.logs.glob("talker.log*")]
    assert len(sizes) == 2
    assert 10_000_000 < sum(sizes) <= 22_000_000
