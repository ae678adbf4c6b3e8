"""A home that is full, read-only or another user's: mounted, and asked for, as it is. Root gives its rights away for that."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE
from windtunnel.platform.home import check_room, user_name

NOBODY = 65534
COMMAND = [sys.executable, "-c", "from windtunnel.cli.app import main; main()"]
FOREIGN = "/usr"  # root's on every machine


def mounted(options: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line with a file system of its own, in a namespace of its own, at `home`."""
    home.mkdir()
    mount = ["unshare", "--map-root-user", "--mount", "sh", "-c", f'mount -t tmpfs -o {options} tmpfs "$0" && exec "$@"', str(home)]
    environment = os.environ | {"WINDTUNNEL_HOME": str(home)}
    return subprocess.run([*mount, *COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=PATIENCE)


def as_another_user(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line as a user whom `FOREIGN` does not belong to."""
    change = [] if os.geteuid() else ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    environment = os.environ | {"WINDTUNNEL_HOME": FOREIGN}
    return subprocess.run([*change, *COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=PATIENCE)


def test_a_full_disk_is_named_before_anything_is_started(tmp_path):
    done = mounted("size=2m", tmp_path / "home", "up")
    assert done.returncode == 1
    assert done.stderr == (
        f"error: the disk of {tmp_path / 'home'} is full: found 1 MiB free, expected at least 100. "
        "Free some space, or set WINDTUNNEL_HOME to a folder on another disk\n"
    )


@pytest.mark.parametrize("command", [["up"], ["down"], ["airflow", "version"]], ids=lambda command: command[0])
def test_a_read_only_disk_is_one_line(tmp_path, command):
    done = mounted("ro", tmp_path / "home", *command)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'home'}/")
    assert "Read-only file system. Set WINDTUNNEL_HOME to a writable folder\n" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_status_of_another_users_platform_cannot_be_seen():
    done = as_another_user("status")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: the platform in {FOREIGN} belongs to user root: user ")
    assert done.stderr.endswith(" cannot see its processes. Run this command as root\n")


@pytest.mark.parametrize("command", [["up"], ["down"], ["airflow", "version"]], ids=lambda command: command[0])
def test_what_another_users_home_does_not_allow_is_one_line(command):
    done = as_another_user(*command)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {FOREIGN}/")
    assert ": Permission denied for user " in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_disk_with_room_is_none_to_speak_of(tmp_path):
    check_room(tmp_path)


def test_a_user_without_a_name_is_a_number():
    assert user_name(0) == "root"
    assert user_name(4_000_000_000) == "4000000000"
