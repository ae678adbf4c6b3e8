"""Check the folder in which a platform keeps everything: its free disk space and its owner."""

import os
import pwd
import shutil
from pathlib import Path

from windtunnel.errors import WindtunnelError

ROOM = 100  # MiB; databases, logs and a small run of lenet5 take 15, and grow


def check_room(home: Path) -> None:
    """Check that the disk of `home` has enough free space for a platform.

    Raises:
        WindtunnelError: the disk is full.
    """
    free = shutil.disk_usage(home).free >> 20
    if free < ROOM:
        raise WindtunnelError(
            f"the disk of {home} is full: found {free} MiB free, expected at least {ROOM}. "
            "Free some space, or set WINDTUNNEL_HOME to a folder on another disk"
        )


def check_owner(home: Path) -> None:
    """Check that this user can see the processes of the platform in `home`. Root sees those of all users, other users only their own.

    Raises:
        WindtunnelError: the folder belongs to another user.
    """
    owner, me = (home.stat().st_uid if home.exists() else os.geteuid()), os.geteuid()
    if me not in (0, owner):
        raise WindtunnelError(
            f"the platform in {home} belongs to user {user_name(owner)}: user {user_name(me)} cannot see its processes. "
            f"Run this command as {user_name(owner)}"
        )


def user_name(uid: int) -> str:
    """Return the name of a user, or the user id as text if this machine does not know the user."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
