"""Airflow's client where no Airflow answers; tests/e2e/shared/test_platform.py has the rest."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from windtunnel.airflow import Airflow
from windtunnel.errors import WindtunnelError
from windtunnel.secrets import password_file
from windtunnel.settings import Settings


def platform(home, port=1, passwords='{"admin": "secret"}'):
    settings = Settings(home=home, airflow_port=port)
    password_file(settings).parent.mkdir(parents=True)
    password_file(settings).write_text(passwords)
    return settings


@pytest.fixture
def other_program():
    """The port of a web server that knows nothing of Airflow."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Hello</html>")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_another_program_at_its_port_is_told_from_airflow(tmp_path, other_program):
    with pytest.raises(
        WindtunnelError, match=r"answers /auth/token with '<html>Hello</html>', which is not JSON as Airflow's: another program"
    ):
        Airflow(platform(tmp_path, other_program))


def test_no_platform_is_said(tmp_path):
    with pytest.raises(WindtunnelError, match=r"there is no platform in .*: start one with `windtunnel up`"):
        Airflow(Settings(home=tmp_path))


@pytest.mark.parametrize("passwords", ["", "{}", "[]", "null", "admin"])
def test_a_file_without_the_password_is_named(tmp_path, passwords):
    with pytest.raises(WindtunnelError, match=r"airflow-passwords\.json holds no password of admin"):
        Airflow(platform(tmp_path, passwords=passwords))
