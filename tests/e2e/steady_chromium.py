"""Start Debian's Chromium so that it is not told of network interfaces: with one for each container, it would drop what it asks for.

Containers start and end while tests use the browser, and a browser ends its requests with ERR_NETWORK_CHANGED then, those to this machine
too. Without the kernel's messages (AF_NETLINK) it takes the network to be steady.
"""

import errno
import os
import socket
import sys

from pyseccomp import ALLOW, EQ, ERRNO, Arg, SyscallFilter

told = SyscallFilter(ALLOW)
told.add_rule(ERRNO(errno.EAFNOSUPPORT), "socket", Arg(0, EQ, socket.AF_NETLINK))
told.load()
os.execvp("chromium", ["chromium", *sys.argv[1:]])
