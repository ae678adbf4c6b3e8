import socket
import subprocess
import sys

from windtunnel.platform.ports import _reserve, free_ports
from windtunnel.settings import ROOT


def test_a_port_is_given_once_and_to_no_other_process_meanwhile():
    ports = free_ports(20)
    assert len({*ports, *free_ports(20)}) == 40
    program = "import sys; from windtunnel.platform.ports import _reserve; print(*(_reserve(int(port)) for port in sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", program, *map(str, ports[:3])], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"] * 3


def test_a_port_that_somebody_listens_on_is_not_given():
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", port)):
        assert not _reserve(port)


def test_what_is_given_can_be_listened_on():
    for port in free_ports(3):
        socket.create_server(("127.0.0.1", port)).close()
