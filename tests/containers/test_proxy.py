"""The proxy before the engine's socket, on a real engine, asked by the client that the worker asks with."""

import json
import os
import socket
import time
from contextlib import suppress

import docker
import pytest
from docker.errors import APIError
from docker.types import ContainerSpec, Mount, Resources, RestartPolicy, TaskTemplate

from tests.containers.refused import HARMFUL, PRIVILEGED, SPELLINGS, UNNEEDED
from tests.waiting import PATIENCE, wait_for

HOME = "/var/lib/windtunnel"


@pytest.fixture(scope="module")
def project():
    return f"windtunnel-proxy-{os.getpid()}"


@pytest.fixture(scope="module")
def image(images):
    """One of the project's images: that of the proxy itself."""
    return f"{images['WINDTUNNEL_IMAGES']}/docker-proxy:{images['WINDTUNNEL_IMAGE_TAG']}"


@pytest.fixture(scope="module")
def url(engine, images, image, project, tmp_path_factory):
    """The proxy's address; it runs as docker-compose.yml has it run, but for its port on this machine."""
    engine.docker("network", "create", f"{project}_tasks")
    environment = {
        "WINDTUNNEL_IMAGES": images["WINDTUNNEL_IMAGES"],
        "WINDTUNNEL_DOCKER_PROJECT": project,
        "WINDTUNNEL_DATA": tmp_path_factory.mktemp("data"),
    }
    flags = [word for name, value in environment.items() for word in ("-e", f"{name}={value}")]
    flags += ["-v", f"{engine.url.removeprefix('unix://')}:/var/run/docker.sock:ro", "-p", "127.0.0.1::2375"]
    flags += ["--cap-drop=ALL", "--security-opt=no-new-privileges:true", "--read-only", "--tmpfs=/tmp", "--memory=64m"]
    engine.docker("run", "-d", f"--name={project}", *flags, image)
    try:
        yield f"tcp://{engine.docker('port', project, '2375')}"
    finally:
        print(engine.docker("logs", project))
        engine.docker("rm", "-f", project, *engine.containers(f"windtunnel.project={project}"))
        engine.docker("volume", "rm", "-f", f"{project}_runs", f"{project}_serving")
        engine.docker("network", "rm", f"{project}_tasks")


@pytest.fixture(scope="module")
def client(url):
    def answering():
        with suppress(docker.errors.DockerException):
            return docker.APIClient(url)

    with wait_for(answering) as client:
        yield client


@pytest.fixture
def create(client, image, project):
    """Create a container as DockerOperator does, with options of our choice; it is removed in the end."""
    created = []

    def create(command=("sleep", "60"), image=image, network=f"{project}_tasks", labels=None, mounts=(), options=None, **host):
        limits = {"mem_limit": "64m", "cpu_shares": 1024, "nano_cpus": 10**9, "port_bindings": {}, "ulimits": [], "privileged": False}
        config = client.create_host_config(network_mode=network, mounts=list(mounts), **limits | host)
        marked = {"windtunnel.project": project} | (labels or {})
        created.append(client.create_container(image, list(command), host_config=config, labels=marked, ports=[], **options or {})["Id"])
        return created[-1]

    yield create
    for identifier in created:
        client.remove_container(identifier, v=True, force=True)


def refusal(ask, *arguments, **options):
    """What the proxy says when it refuses; an error of the engine is none."""
    with pytest.raises(APIError) as caught:
        ask(*arguments, **options)
    assert caught.value.status_code == 403, caught.value
    assert caught.value.explanation.startswith("docker-proxy")
    return caught.value.explanation


def request(client, method, path, body=None, **options):
    """A request of our own wording."""
    response = client.request(method, f"{client.base_url}{path}", data=body, timeout=PATIENCE, **options)
    return response.status_code, response.text


def test_a_container_runs_and_its_output_is_followed_to_the_end(client, create):
    identifier = create(["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.5; done; exit 7"])
    output = client.attach(identifier, stdout=True, stderr=True, stream=True)
    client.start(identifier)
    assert b"".join(output).split() == [b"1", b"2", b"3"]
    assert client.wait(identifier)["StatusCode"] == 7
    assert client.inspect_container(identifier)["State"]["ExitCode"] == 7
    assert client.inspect_container(identifier[:12])["Id"] == identifier
    assert client.logs(identifier).split() == [b"1", b"2", b"3"]


def test_a_container_is_found_by_its_labels_stopped_and_removed(client, create, project):
    identifier = create(labels={"windtunnel.run": "manual__2026-01-01T00:00:00+00:00", "windtunnel.task": "train ü/1"})
    client.start(identifier)
    wanted = [f"windtunnel.project={project}", "windtunnel.run=manual__2026-01-01T00:00:00+00:00", "windtunnel.task=train ü/1"]
    assert [found["Id"] for found in client.containers(all=True, filters={"label": wanted})] == [identifier]
    assert client.containers(all=True, filters={"label": [*wanted, "windtunnel.dag=other"]}) == []
    client.kill(identifier)
    client.start(identifier)
    client.stop(identifier, timeout=1)
    assert client.inspect_container(identifier)["State"]["Running"] is False


def test_waiting_outlasts_the_time_that_a_request_may_take_to_arrive(client, create):
    identifier = create(["sleep", "15"])
    client.start(identifier)
    assert client.wait(identifier, timeout=PATIENCE)["StatusCode"] == 0


def test_volumes_of_the_project_and_the_data_sets_are_mounted(client, create, engine, project):
    data = engine.docker("inspect", "-f", "{{range .Config.Env}}{{println .}}{{end}}", project)
    folder = next(line.partition("=")[2] for line in data.splitlines() if line.startswith("WINDTUNNEL_DATA="))
    mounts = [
        Mount(f"{HOME}/runs", f"{project}_runs"),
        Mount(f"{HOME}/serving", f"{project}_serving", read_only=True),
        Mount(f"{HOME}/data", folder, type="bind", read_only=True),
    ]
    identifier = create(["sh", "-c", f"touch {HOME}/runs/here && ! touch {HOME}/data/here"], mounts=mounts)
    client.start(identifier)
    assert client.wait(identifier)["StatusCode"] == 0, client.logs(identifier)


def test_the_engine_and_its_images_may_be_looked_at(client, engine, image):
    assert client.ping()
    assert client.info()["ID"] == engine.docker("info", "-f", "{{.ID}}")
    assert client.inspect_image(image)["Id"] == client.images(name=image)[0]["Id"]
    with pytest.raises(docker.errors.ImageNotFound):
        client.inspect_image(image + "-that-is-not-there")


@pytest.mark.parametrize("host", HARMFUL, ids=str)
def test_a_container_that_could_do_harm_is_refused(create, host):
    assert "only this project's images, volumes and network" in refusal(create, **host)


def test_the_folder_of_data_sets_is_mounted_read_only_or_not_at_all(create, client, engine, project):
    lines = engine.docker("inspect", "-f", "{{range .Config.Env}}{{println .}}{{end}}", project).splitlines()
    folder = next(line.partition("=")[2] for line in lines if line.startswith("WINDTUNNEL_DATA="))
    refusal(create, mounts=[Mount(f"{HOME}/data", folder, type="bind")])
    refusal(create, mounts=[Mount(f"{HOME}/data", f"{folder}/..", type="bind", read_only=True)])


@pytest.mark.parametrize("body", SPELLINGS)
def test_no_spelling_gets_past_the_proxy(client, image, project, body):
    body = body.replace("IMAGE", image).replace("PROJECT", project)
    status, text = request(client, "POST", "/v1.41/containers/create", body, headers={"Content-Type": "application/json"})
    assert (status, "docker-proxy refuses" in text) == (403, True), text


def test_a_body_of_unknown_length_is_refused(client, image):
    pieces = iter([f'{{"Image": "{image}"'.encode(), b"}"])
    assert request(client, "POST", "/v1.41/containers/create", pieces, headers={"Content-Type": "application/json"})[0] == 403


def test_words_of_a_command_may_look_like_anything(client, create):
    words = ["printf", "%s\n", '"Privileged": true', ":", "ü\\", '{"Binds": ["/:/host"]}', '"', "a" * 20_000]
    identifier = create(words)
    client.start(identifier)
    client.wait(identifier)
    assert client.logs(identifier).decode().splitlines() == words[2:]


@pytest.mark.parametrize(("method", "path"), UNNEEDED)
def test_what_no_task_needs_is_refused(client, project, method, path):
    filters = f"filters=%7B%22label%22%3A+%5B%22windtunnel.project%3D{project}%22%5D%7D"
    address = client.base_url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=PATIENCE) as connection:  # as it is written: a client tidies paths
        target = path.replace("PROJECT", project).replace("FILTERS", filters)
        connection.sendall(f"{method} {target} HTTP/1.1\r\nHost: engine\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 403"), answer
    assert method in json.loads(body)["message"]


def test_a_container_gets_no_rights_when_it_is_started(client, create):
    identifier = create()
    status, text = request(
        client, "POST", f"/v1.41/containers/{identifier}/start", f"{{{PRIVILEGED}}}", headers={"Content-Type": "application/json"}
    )
    assert (status, "docker-proxy" in text) == (403, True)


@pytest.fixture
def overlay(engine, swarm, project, url):
    """The project's network for tasks, as a Swarm has it."""
    engine.docker("network", "rm", f"{project}_tasks")
    engine.docker("network", "create", "--driver=overlay", "--attachable", f"{project}_tasks")
    yield f"{project}_tasks"
    engine.docker("network", "rm", f"{project}_tasks")
    engine.docker("network", "create", f"{project}_tasks")


def create_service(client, image, project, network, mounts=(), **spec):
    """Create a service as DockerSwarmOperator does."""
    container = ContainerSpec(image, command=None, args=["echo", "here"], mounts=list(mounts), env={"A": "1"}, tty=False, **spec)
    limits = Resources(cpu_limit=10**9, mem_limit=2**26)
    template = TaskTemplate(container, restart_policy=RestartPolicy(condition="none"), resources=limits, networks=[network])
    labels = {"name": "airflow__dag__task", "windtunnel.project": project}
    return client.create_service(template, name=f"{project}-service", labels=labels)["ID"]


def test_a_service_runs_is_found_by_its_labels_and_removed(client, engine, image, project, overlay):
    mounts = [Mount(f"{HOME}/runs", f"{project}_runs")]
    identifier = create_service(client, image, project, overlay, mounts)
    try:
        assert [found["ID"] for found in client.services(filters={"label": [f"windtunnel.project={project}"]})] == [identifier]
        assert client.inspect_service(identifier)["ID"] == identifier
        wait_for(lambda: any(task["Status"]["State"] == "complete" for task in client.tasks(filters={"service": identifier})))
        assert b"".join(client.service_logs(identifier, stdout=True)) == b"here\n"
    finally:
        client.remove_service(identifier)
        while engine.containers(f"com.docker.swarm.service.id={identifier}"):
            time.sleep(0.2)
    assert client.services(filters={"label": [f"windtunnel.project={project}"]}) == []


def test_a_service_is_judged_as_a_container_is(client, image, project):
    tasks = f"{project}_tasks"
    refusal(create_service, client, "debian:bookworm-slim", project, tasks)
    refusal(create_service, client, image, project, "host")
    refusal(create_service, client, image, project, tasks, mounts=[Mount("/host", "/", type="bind")])
    refusal(create_service, client, image, project, tasks, user="root")
    refusal(create_service, client, image, project, tasks, secrets=[docker.types.SecretReference("0" * 25, "other")])
