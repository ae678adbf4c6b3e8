"""Airflow's client where no Airflow answers; tests/e2e/shared/test_platform.py has the rest."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.extension import installed
from windtunnel.errors import WindtunnelError
from windtunnel.platform.airflow import Airflow, Task
from windtunnel.platform.secrets import password_file
from windtunnel.settings import Settings


def platform(home, port=1, passwords='{"admin": "secret"}'):
    settings = Settings(home=home, airflow_port=port)
    password_file(settings).parent.mkdir(parents=True)
    password_file(settings).write_text(passwords)
    return settings


class Quiet(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def served(handler):
    """The port of a server whose requests go to a class of handlers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def other_program():
    """The port of a web server that knows nothing of Airflow."""

    class Handler(Quiet):
        def do_POST(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Hello</html>")

    with served(Handler) as port:
        yield port


def test_another_program_at_its_port_is_told_from_airflow(tmp_path, other_program):
    with pytest.raises(
        WindtunnelError, match=r"is not Airflow: found '<html>Hello</html>' at /auth/token, expected JSON\. Another program"
    ):
        Airflow(platform(tmp_path, other_program))


def test_no_platform_is_said(tmp_path):
    with pytest.raises(WindtunnelError, match=r"there is no platform in .*: start one with `windtunnel up`"):
        Airflow(Settings(home=tmp_path))


@pytest.mark.parametrize("passwords", ["", "{}", "[]", "null", "admin"])
def test_a_file_without_the_password_is_named(tmp_path, passwords):
    with pytest.raises(WindtunnelError, match=r"airflow-passwords\.json has no password for user admin"):
        Airflow(platform(tmp_path, passwords=passwords))


@pytest.fixture
def reading_airflow():
    """The port of an Airflow that has just been asked for a DAG for the first time, and what it answers: status and JSON, by path."""
    answers = {"/auth/token": [(200, {"access_token": "a token"})]}

    class Handler(Quiet):
        def do_GET(self):
            known = answers[self.path.partition("?")[0]]
            status, answer = known.pop(0) if len(known) > 1 else known[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_POST = do_GET

    with served(Handler) as port:
        yield port, answers


@pytest.mark.usefixtures("extension")
def test_the_dag_of_a_declared_model_is_waited_for_though_no_file_names_it(tmp_path, reading_airflow):
    port, answers = reading_airflow
    details = {"is_paused": False, "params": {"epochs": {"schema": {"type": "integer"}}}}
    answers["/api/v2/dags/blobs/details"] = [(404, {}), (200, details)]
    answers["/api/v2/importErrors"] = [(200, {"import_errors": []})]
    assert Airflow(platform(tmp_path, port)).params("blobs") == {"epochs": {"type": "integer"}}


@pytest.mark.usefixtures("extension")
def test_a_wrong_declaration_is_no_problem_of_another_model(tmp_path, reading_airflow):
    port, answers = reading_airflow
    answers["/api/v2/dags/blobs/details"] = [(404, {}), (200, {"is_paused": False, "params": {}})]
    problem = "WindtunnelError: the entry point spots = extension:NOTHING of extension cannot be loaded"
    answers["/api/v2/importErrors"] = [(200, {"import_errors": [{"filename": "wrong_declarations.py", "stack_trace": problem}]})]
    assert Airflow(platform(tmp_path, port)).params("blobs") == {}


def test_a_wrong_declaration_is_the_reason_why_a_dag_is_missing(tmp_path, reading_airflow):
    port, answers = reading_airflow
    answers["/api/v2/dags/spots/details"] = [(404, {})]
    problem = "WindtunnelError: the entry point spots = extension:NOTHING of extension cannot be loaded"
    answers["/api/v2/importErrors"] = [(200, {"import_errors": [{"filename": "wrong_declarations.py", "stack_trace": problem}]})]
    answers["/api/v2/dags"] = [(200, {"dags": [{"dag_id": "lenet5"}]})]
    with pytest.raises(WindtunnelError, match=r"there is no DAG 'spots' in .*Choose one of: lenet5"):
        Airflow(platform(tmp_path, port)).params("spots")
    with (
        installed(tmp_path / "extension", "[windtunnel.models]\nspots = extension:NOTHING"),
        pytest.raises(WindtunnelError, match=r"wrong_declarations\.py cannot be imported: WindtunnelError: the entry point spots"),
    ):
        Airflow(Settings(home=tmp_path, airflow_port=port)).params("spots")


@pytest.fixture
def logging_airflow():
    """The port of a server that has a task's log, as Airflow 3.3.2 sends it, and makes a token for everyone."""
    lines = [
        *("::group::Log message source details", "/a/file", "::endgroup::", "::group::Pre Execute", "Rendered", "::endgroup::"),
        *("one", "::group::measurements", "two", "::group::details", "three", "::endgroup::", "four", "::endgroup::", "five"),
        *("::group::Post Execute", "Pushing xcom"),
    ]

    class Handler(Quiet):
        def do_POST(self):
            self.answer({"access_token": "a token"})

        def do_GET(self):
            self.answer({"content": [{"event": line} for line in lines]})

        def answer(self, body):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

    with served(Handler) as port:
        yield port


def test_the_lines_of_a_tasks_own_groups_are_shown_and_those_of_airflows_are_not(tmp_path, logging_airflow):
    task = Task("measure", "success", 1.0, "http://airflow", "/logs/1")
    assert Airflow(platform(tmp_path, logging_airflow)).log(task) == ["one", "two", "three", "four", "five"]
