import subprocess
import sys
from contextlib import contextmanager

import pytest

from serving.backends.catalog import connect
from tests.extension import installed
from windtunnel.backend import _TAKEN, backend_problems, backends, find_backend
from windtunnel.cli import app
from windtunnel.errors import WindtunnelError
from windtunnel.platform import lifecycle, supervised
from windtunnel.platform.ports import platform_ports
from windtunnel.server_settings import ServerSettings
from windtunnel.settings import ROOT, Settings, load_settings

HEAVY = ("torch", "tensorflow", "airflow", "mlflow", "numpy", "grpc", "httpx", "onnxruntime")
OURS = ["torchserve", "tfserving", "speech"]


class ServerlessSettings(ServerSettings):
    @property
    def address(self):
        return "nowhere"


def test_the_projects_backends_are_declared_in_the_order_in_which_they_are_listed():
    assert [name for name in backends() if name in OURS] == OURS
    assert [find_backend(name).title for name in OURS] == ["TorchServe", "TF Serving", "Speech"]


def test_declarations_import_neither_clients_nor_servers():
    script = f"import sys; from windtunnel.settings import load_settings; load_settings(); print({{*{HEAVY}}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("name", OURS)
def test_the_client_is_of_the_declared_name(name, tmp_path):
    assert connect(name, Settings(home=tmp_path)).name == name


def test_the_addresses_of_the_projects_servers_are_printed_as_they_always_were(tmp_path, capsys):
    settings = Settings(home=tmp_path, host="10.0.0.1", servers={"speech": {"host": "speech"}})
    app._print_addresses(settings)
    assert capsys.readouterr().out.splitlines() == [
        f"Airflow      http://10.0.0.1:8080  (user admin, password in {tmp_path}/secrets/airflow-passwords.json)",
        "MLflow       http://10.0.0.1:5000",
        "TensorBoard  http://10.0.0.1:6006",
        "TorchServe   http://10.0.0.1:8082",
        "TF Serving   http://10.0.0.1:8501",
        "Speech       10.0.0.1:55221",
        f"Logs         {tmp_path}/logs",
    ]


@pytest.mark.usefixtures("extension")
def test_a_backend_of_another_package_is_a_server_of_the_platform(tmp_path, capsys):
    ports = platform_ports()
    settings = Settings(home=tmp_path, **ports)
    address = f"http://127.0.0.1:{ports['servers']['echo']['port']}"
    assert connect("echo", settings).address == address
    processes = lifecycle.status(settings)
    assert [process.name for process in processes][-4:] == [*OURS, "echo"]
    assert (processes[-1].state, processes[-1].address) == ("down", address)
    assert lifecycle._endpoints(settings)["echo"] == lifecycle.Endpoint(
        address,
        "/alive",
        {"WINDTUNNEL_ECHO_ADMIN_PORT": ports["servers"]["echo"]["admin_port"], "WINDTUNNEL_ECHO_PORT": ports["servers"]["echo"]["port"]},
    )
    app._print_addresses(settings)
    assert f"Echo         {address}\n" in capsys.readouterr().out


def test_settings_that_no_backend_declares_are_refused():
    with pytest.raises(
        WindtunnelError, match=r"no backend has the settings ServerlessSettings: found torchserve, .*\. Install its package"
    ):
        load_settings().server(ServerlessSettings)


def test_an_unknown_backend_is_refused_with_those_that_are_known():
    with pytest.raises(WindtunnelError, match="server 'triton' is unknown: expected one of speech, tfserving, torchserve"):
        find_backend("triton")


MORE = """
import dataclasses

from extension import ECHO, EchoSettings, Port, ServerSettings


class Portless(EchoSettings):
    another_port: Port


class Nowhere(ServerSettings):
    port: Port = 60003


def echo(**changes):
    return dataclasses.replace(ECHO, **changes)


PORTLESS, NOWHERE, UNSET = echo(settings=Portless), echo(settings=Nowhere), echo(settings=None)
MLFLOW, FIRST = echo(name="mlflow"), echo(name="first", settings=type("First", (EchoSettings,), {}))
"""


@contextmanager
def declaring(folder, entry_points):
    with installed(folder, f"[windtunnel.backends]\n{entry_points}"):
        (folder / "more_backends.py").write_text(MORE)
        yield


@pytest.mark.parametrize(
    ("entry_points", "says"),
    [
        ("echo = extension:NOTHING", "echo = extension:NOTHING (windtunnel.backends) of extension cannot be loaded"),
        ("echo = extension:A_NUMBER", "of extension is of type int, expected Backend"),
        ("noise = extension:ECHO", "of extension declares the backend 'echo', expected 'noise'"),
        ("LOUD = extension:LOUD", "of extension declares the backend 'LOUD', expected lower-case letters"),
        ("mlflow = more_backends:MLFLOW", "declares the backend 'mlflow', a name that the platform uses itself. Give it another name"),
        (
            "echo = more_backends:PORTLESS",
            "of extension has settings that cannot be made (another_port: Field required). Give every",
        ),
        ("echo = more_backends:NOWHERE", "of extension has settings that cannot be made ("),
        ("echo = more_backends:UNSET", "of extension has settings that cannot be made ("),
    ],
)
def test_a_wrong_declaration_is_an_error_that_names_its_package_and_does_not_affect_others(tmp_path, capsys, entry_points, says):
    with declaring(tmp_path / "extension", entry_points):
        [(name, problem)] = backend_problems().items()
        assert says in str(problem)
        assert name == entry_points.partition(" ")[0]
        assert {*OURS} <= load_settings().servers.keys() == backends().keys() - {name}
        with pytest.raises(WindtunnelError) as raised:
            find_backend(name)
        assert str(raised.value) == str(problem)
        app._tell_wrong_declarations()
        assert capsys.readouterr().err == f"wrong declaration: {problem}\n"


def test_no_backend_can_have_the_name_of_another_process():
    assert {name for name in supervised.process_names(ROOT, ()) if "-" not in name} <= {*_TAKEN}
    assert lifecycle.SUPERVISOR in _TAKEN


def test_the_addresses_are_those_of_the_platform_and_its_servers(tmp_path):
    assert app._addresses(Settings(home=tmp_path)).keys() - backends().keys() <= {*_TAKEN}


def test_two_backends_may_share_a_type_of_settings_by_a_subclass(tmp_path):
    with declaring(tmp_path / "extension", "first = more_backends:FIRST\necho = extension:ECHO"):
        settings = load_settings()
        for name in ("first", "echo"):
            assert settings.server(find_backend(name).settings) is settings.servers[name]
