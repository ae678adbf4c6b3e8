"""The folder in which a platform keeps everything: whether there is room in it, and whose it is."""

import os
import pwd
import shutil
from pathlib import Path

from windtunnel.errors import WindtunnelError

ROOM = 100  # MiB: databases, logs and a small run of lenet5 take 15, and grow


def check_room(home: Path) -> None:
    """See that a platform in `home` can write what it has to.

    Raises:
        WindtunnelError: its disk is full.
    """
    free = shutil.disk_usage(home).free >> 20
    if free < ROOM:
        raise WindtunnelError(
            f"the disk of {home} is full: found {free} MiB free, expected at least {ROOM}. "
            "Free some space, or set WINDTUNNEL_HOME to a folder on another disk"
        )


def check_owner(home: Path) -> None:
    """See that the processes of the platform in `home` can be seen: root sees those of all users, others their own.

    Raises:
        WindtunnelError: the folder is another user's.
    """
    owner, me = (home.stat().st_uid if home.exists() else os.geteuid()), os.geteuid()
    if me not in (0, owner):
        raise WindtunnelError(
            f"the platform in {home} is that of user {user_name(owner)}: user {user_name(me)} cannot see its processes. "
            f"Run this as {user_name(owner)}"
        )


def user_name(uid: int) -> str:
    """The name of a user, or the number of one that has none here."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
