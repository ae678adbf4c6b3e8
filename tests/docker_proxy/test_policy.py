"""The proxy before the engine's socket, without an engine: what it passes on, and what it refuses and why."""

import asyncio
import json
import re
import socket
import threading
from contextlib import suppress
from urllib.parse import parse_qsl

import docker
import pytest
from docker.types import ContainerSpec, LogConfig, Mount, Resources, RestartPolicy, SecretReference, TaskTemplate
from hypothesis import given
from hypothesis import strategies as st

from containers.docker_proxy import serve
from containers.docker_proxy.judge import Judge, Refused, Request
from containers.docker_proxy.policy import Project
from tests.containers.refused import HARMFUL, SPELLINGS, UNKNOWN, UNNEEDED
from tests.waiting import PATIENCE

JUDGE = Judge(Project(name="project", images="registry.example:5000/wind.tunnel", data="/srv/data"))
IMAGE = f"{JUDGE.project.images}/train_server:0.2.0"
SERVICE = "a1" * 12 + "z"
LABELS = {"windtunnel.project": "project", "windtunnel.task": "train ü/1"}
MOUNTS = [
    Mount("/runs", "project_runs"),
    Mount("/data", "project_data", read_only=True),
    Mount("/secrets", "project_release-secrets", read_only=True),
    Mount("/data", "/srv/data", type="bind", read_only=True),
]


class Sent(Exception):
    pass


class Client(docker.APIClient):
    """The worker's client, which keeps what it would send."""

    def send(self, request, **options):
        raise Sent(Request(request.method, request.path_url, (request.body or "").encode()))


def asked(call):
    """What `call`, given a client, asks the engine first."""
    with pytest.raises(Sent) as caught:
        call(Client("tcp://engine:2375", version="1.41"))
    return caught.value.args[0]


def create_container(client, image=IMAGE, network="project_tasks", labels=LABELS, mounts=MOUNTS, options=None, **host):
    """As DockerOperator does."""
    limits = {"mem_limit": "2g", "cpu_shares": 1024, "nano_cpus": 10**9}
    common = limits | {"port_bindings": {}, "ulimits": [], "log_config": LogConfig(config={}), "privileged": False}
    config = client.create_host_config(network_mode=network, mounts=mounts, **common | host)
    client.create_container(image, ["a"], environment={"A": "1"}, host_config=config, labels=labels, ports=[], tty=False, **options or {})


def create_service(client, image=IMAGE, network="project_tasks", labels=LABELS, mounts=MOUNTS, command=None, **spec):
    """As DockerSwarmOperator does."""
    container = ContainerSpec(image, command=command, args=["a"], mounts=mounts, env={"A": "1"}, tty=False, **spec)
    limits = Resources(cpu_limit=10**9, mem_limit=2**31)
    task = TaskTemplate(container, restart_policy=RestartPolicy(condition="none"), resources=limits, networks=[network])
    client.create_service(task, name="project-x", labels=labels | {"name": "airflow__dag__task"})


def split(target):
    """The path, and the query, whose order has no meaning."""
    path, _, query = target.partition("?")
    return path, {name: json.loads(value) if name == "filters" else value for name, value in parse_qsl(query)}


def reason(request):
    with pytest.raises(Refused) as caught:
        JUDGE.judge(request)
    return str(caught.value)


CALLS = {
    "ping": lambda client: client.ping(),
    "version": lambda client: client.version(),
    "version of none": lambda client: client.version(api_version=False),
    "info": lambda client: client.info(),
    "images": lambda client: client.images(name=IMAGE),
    "image": lambda client: client.inspect_image(IMAGE),
    "containers": lambda client: client.containers(all=True, filters={"label": [f"{name}={value}" for name, value in LABELS.items()]}),
    "container": lambda client: client.inspect_container(UNKNOWN),
    "host name": lambda client: client.inspect_container(UNKNOWN[:12]),
    "logs": lambda client: client.logs(UNKNOWN, stdout=True, stderr=False),
    "create container": create_container,
    "attach": lambda client: client.attach(UNKNOWN, stdout=True, stderr=True, stream=True),
    "start": lambda client: client.start(UNKNOWN),
    "wait": lambda client: client.wait(UNKNOWN),
    "stop": lambda client: client.stop(UNKNOWN, timeout=2),
    "kill": lambda client: client.kill(UNKNOWN),
    "remove container": lambda client: client.remove_container(UNKNOWN, v=True, force=True),
    "create service": create_service,
    "services": lambda client: client.services(filters={"label": ["windtunnel.project=project"]}),
    "service": lambda client: client.inspect_service(SERVICE),
    "tasks": lambda client: client.tasks(filters={"service": SERVICE}),
    "service logs": lambda client: client.service_logs(SERVICE, stdout=True, stderr=True),
    "remove service": lambda client: client.remove_service(SERVICE),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_the_worker_asks_passes_unchanged(name):
    request = asked(CALLS[name])
    passed = JUDGE.judge(request)
    assert (passed.method, *split(passed.target)) == (request.method, *split(request.target))
    assert json.loads(passed.body or "{}") == json.loads(request.body or "{}")


@pytest.mark.parametrize("host", HARMFUL, ids=str)
def test_a_container_that_could_do_harm_is_refused(host):
    assert "only this project's images, volumes and network" in reason(asked(lambda client: create_container(client, **host)))


@pytest.mark.parametrize(
    "options",
    [
        {"image": "debian:bookworm-slim"},
        {"network": "host"},
        {"mounts": [Mount("/host", "/", type="bind")]},
        {"user": "root"},
        {"command": ["sh"]},
        {"secrets": [SecretReference("0" * 25, "other")]},
        {"cap_add": ["SYS_ADMIN"]},
    ],
    ids=str,
)
def test_a_service_that_could_do_harm_is_refused(options):
    assert "only this project's images, volumes and network" in reason(asked(lambda client: create_service(client, **options)))


@pytest.mark.parametrize("body", SPELLINGS)
def test_no_spelling_gets_past_the_policy(body):
    body = body.replace("IMAGE", IMAGE).replace("PROJECT", "project")
    assert reason(Request("POST", "/v1.41/containers/create", body.encode())).startswith("refuses to create this")


@pytest.mark.parametrize(("method", "path"), UNNEEDED)
def test_what_no_task_needs_is_refused(method, path):
    filters = "filters=%7B%22label%22%3A+%5B%22windtunnel.project%3Dproject%22%5D%7D"
    assert method in reason(Request(method, path.replace("PROJECT", "project").replace("FILTERS", filters)))


VALID = json.dumps({"Image": IMAGE, "Labels": {"windtunnel.project": "project"}, "HostConfig": {"NetworkMode": "project_tasks"}})


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ('{"NetworkMode"', '{"Privileged": false, "NetworkMode"', "HostConfig.Privileged is not allowed"),
        ('{"NetworkMode"', '{"Priv\\u0069leged": true, "NetworkMode"', "HostConfig.Privileged is not allowed"),
        ('{"NetworkMode"', '{"privileged": true, "NetworkMode"', "HostConfig.privileged is not allowed"),
        ('{"NetworkMode"', '{"NetworkMode": "host", "NetworkMode"', "a name is repeated"),
        ('{"NetworkMode": "project_tasks"}', "{}", "HostConfig.NetworkMode: Field required"),
        ("project_tasks", "project_tasks\\n", "HostConfig.NetworkMode: not this project's network for tasks"),
        ('"HostConfig"', '"hostconfig": {"Privileged": true}, "HostConfig"', "hostconfig is not allowed"),
        (IMAGE, IMAGE.replace("wind.tunnel", "windxtunnel"), "Image: not one of this project's images"),
        (IMAGE, IMAGE + "@sha256:0", "Image: not one of this project's images"),
        ('"windtunnel.project": "project"', "", "Labels: windtunnel.project is not this project"),
        ('.project": "project"', '.project": "other"', "Labels: windtunnel.project is not this project"),
        ('{"windtunnel', '{"com.docker.compose.project": "project", "windtunnel', "Labels.com.docker.compose.project.[key]: String should"),
        ('"Image"', '"OpenStdin": true, "Image"', "OpenStdin: Input should be False"),
        ('"Image"', '"Cmd": "a", "Image"', "Cmd: Input should be a valid list"),
        ('"Image"', '"Cmd": ["\\ud800"], "Image"', "surrogates not allowed"),
        ("{", "[" * 60_000, "nested too deeply"),
        ("{", "\ufeff{", "Unexpected UTF-8 BOM"),
        ("}}", "}} {}", "Extra data"),
        (VALID, "", "Expecting value"),
        (VALID, "[]", "it: Input should be"),
    ],
)
def test_a_container_is_refused_for_one_difference(before, after, why):
    create = Request("POST", "/v1.41/containers/create", VALID.encode())
    assert json.loads(JUDGE.judge(create).body) == json.loads(VALID)
    assert before in VALID
    assert why in reason(Request("POST", create.target, VALID.replace(before, after, 1).encode()))


def test_a_body_in_another_encoding_is_refused():
    assert "codec" in reason(Request("POST", "/v1.41/containers/create", VALID.encode("utf-16")))


@pytest.mark.parametrize("source", [("volume", "project_data"), ("volume", "project_release-secrets"), ("bind", "/srv/data")])
def test_data_sets_and_the_public_key_are_mounted_read_only_or_not_at_all(source):
    mounts = [Mount("/data", source[1], type=source[0])]
    assert "HostConfig.Mounts.0: neither" in reason(asked(lambda client: create_container(client, mounts=mounts)))


def test_no_folder_is_mounted_where_the_data_sets_are_in_a_volume():
    request = asked(lambda client: create_container(client, mounts=[Mount("/data", "data", type="bind", read_only=True)]))
    with pytest.raises(Refused):
        Judge(Project("project", JUDGE.project.images, "data")).judge(request)


@pytest.mark.parametrize(
    "labels",
    [["windtunnel.project=project", "windtunnel.project=other"], ["windtunnel.project"], ["windtunnel.task=a"], []],
)
def test_a_list_is_of_this_project_alone(labels):
    assert "filters.label" in reason(asked(lambda client: client.services(filters={"label": labels})))


@given(st.text(), st.text(), st.text())
def test_words_may_look_like_anything(word, value, label):
    body = json.loads(VALID) | {"Cmd": [word], "Env": [f"A={value}"]}
    body["Labels"]["windtunnel.task"] = label
    passed = JUDGE.judge(Request("POST", "/v1.41/containers/create", json.dumps(body).encode()))
    assert json.loads(passed.body) == body
    request = asked(lambda client: client.containers(filters={"label": ["windtunnel.project=project", f"windtunnel.task={label}"]}))
    assert split(JUDGE.judge(request).target) == split(request.target)


@given(st.text(), st.sampled_from(["", "HostConfig", "Labels"]))
def test_no_other_name_passes(name, place):
    body = json.loads(VALID)
    part = body[place] if place else body
    if name not in part and not name.startswith("windtunnel."):
        part[name] = {"Privileged": True}
        reason(Request("POST", "/v1.41/containers/create", json.dumps(body).encode()))


class Engine:
    """Keeps what it received, and sends `answer`; then it closes the connection, or, to `follow` it, waits for the other end to do that."""

    def __init__(self):
        self.received, self.follow, self.left = [], False, threading.Event()
        self.answer = b'HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Length: 12\r\n\r\n{"Id": "id"}'

    async def connected(self, reader, writer):
        received = await reader.readuntil(b"\r\n\r\n")
        received += await reader.readexactly(int(re.search(rb"Content-Length: (\d+)", received)[1]))
        self.received.append(received)
        writer.write(self.answer)
        await writer.drain()
        if self.follow:
            self.received.append(await reader.read())
            self.left.set()
        writer.close()


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
def address(engine, tmp_path):
    """The proxy's address, in front of `engine`."""
    started, running = threading.Event(), {}

    async def run():
        path, stop = tmp_path / "socket", asyncio.Event()
        async with await asyncio.start_unix_server(engine.connected, path), await serve.serve(JUDGE, str(path), "127.0.0.1", 0) as proxy:
            running.update(address=proxy.sockets[0].getsockname(), loop=asyncio.get_running_loop(), stop=stop)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert started.wait(PATIENCE)
    yield running["address"]
    running["loop"].call_soon_threadsafe(running["stop"].set)
    thread.join(PATIENCE)


def send(address, *pieces):
    """All that comes back for these bytes."""
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


CREATE = f"POST /v1.41/containers/create HTTP/1.1\r\nHost: a\r\nContent-Length: {len(VALID)}\r\nX-Other: b\r\n\r\n{VALID}".encode()


def test_the_engine_gets_a_request_of_the_proxys_own(address, engine):
    assert send(address, CREATE[:9], CREATE[9:99], CREATE[99:]) == engine.answer.decode()
    [head, body] = engine.received[0].decode().split("\r\n\r\n")
    assert head.split("\r\n") == [
        "POST /v1.41/containers/create HTTP/1.1",
        "Host: docker",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    assert json.loads(body) == json.loads(VALID)


def test_a_connection_carries_one_request(address, engine):
    assert send(address, CREATE + b"POST /v1.41/containers/prune HTTP/1.1\r\nHost: a\r\n\r\n" + CREATE).count("HTTP/1.1") == 1
    assert len(engine.received) == 1


def test_output_is_followed_and_nothing_is_sent_to_a_container(address, engine):
    engine.follow, engine.answer = True, b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nline"
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        attach = f"POST /v1.41/containers/{UNKNOWN}/attach?logs=0&stdout=1&stderr=1&stream=1 HTTP/1.1"
        connection.sendall(f"{attach}\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\ninput".encode())
        received = b""
        while not received.endswith(b"line"):
            received += connection.recv(65536)
        connection.sendall(b"input")
    assert engine.left.wait(PATIENCE), "the client has gone, and the engine was not told"
    assert b"Connection: Upgrade\r\nUpgrade: tcp" in engine.received[0]
    assert engine.received[1] == b""


@pytest.mark.parametrize(
    ("request_", "status", "why"),
    [
        (b"GET /v1.41/events HTTP/1.1\r\nHost: a\r\n\r\n", 403, "does not let GET /v1.41/events through, see"),
        (CREATE.replace(VALID.encode(), VALID.replace("tasks", "other").encode()), 403, "refuses to create this"),
        (CREATE.replace(b"X-Other: b", b"Transfer-Encoding: chunked"), 403, "refuses a body of unknown length"),
        (b"POST /v1.41/containers/create HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n" + b" " * 70_000, 403, "longer than 65536"),
        (b"POST /v1.41/containers/create HTTP/1.1\r\nHost: a\r\nContent-Length: 7000000\r\n\r\n" + b" " * 7_000_000, 403, "longer than"),
        (f"POST /v1.41/containers/{UNKNOWN}/start HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{{}}".encode(), 403, "it has a body"),
        (CREATE.replace(b"X-Other: b", b"Content-Length: 1"), 400, "conflicting Content-Length"),
        (CREATE.replace(b"X-Other: b", b"X-Other : b"), 400, "cannot read this request"),
        (b"GET  /_ping HTTP/1.1\r\nHost: a\r\n\r\n", 400, "cannot read this request"),
    ],
)
def test_a_refusal_says_why_and_does_not_reach_the_engine(address, engine, capfd, request_, status, why):
    head, _, body = send(address, request_).partition("\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert json.loads(body)["message"].startswith("docker-proxy ")
    assert why in json.loads(body)["message"]
    assert capfd.readouterr().out.startswith(f"{status} ")
    assert not engine.received


def test_a_line_of_the_log_is_one_refusal(address, capfd):
    body = VALID.replace("Image", "\\n\\ud800 403").encode()
    assert send(address, CREATE.replace(f"Length: {len(VALID)}".encode(), f"Length: {len(body)}".encode()).replace(VALID.encode(), body))
    assert len(capfd.readouterr().out.splitlines()) == 1


def test_a_request_that_does_not_arrive_is_not_waited_for(address, engine, monkeypatch):
    monkeypatch.setattr(serve, "REQUEST_SECONDS", 0.1)
    assert send(address, CREATE[:-1]).startswith("HTTP/1.1 408 ")


def test_a_client_that_asks_nothing_is_no_error(address, engine, capfd):
    with suppress(ConnectionError), socket.create_connection(address):
        pass
    assert send(address, CREATE)
    assert capfd.readouterr().out == ""


def test_without_an_engine_the_answer_says_so(address, tmp_path):
    (tmp_path / "socket").unlink()
    answer = send(address, b"GET /_ping HTTP/1.0\r\n\r\n")
    assert answer.startswith("HTTP/1.1 502 ")
    assert "docker-proxy finds no engine at" in answer
