"""The platform as its users bring it up: every service, and the DAGs in containers. The tests stand in the order they run in."""

import json
import re
import subprocess
import time

import grpc
import httpx
import numpy as np
import pytest

from serving.backends.tfserving.declaration import TFServingSettings
from serving.backends.torchserve.declaration import TorchServeSettings
from serving.speech_server.declaration import SpeechSettings
from serving.speech_server.protos.dlserver_pb2 import InferenceRequest, TrainingRequest
from serving.speech_server.protos.dlserver_pb2_grpc import DLServerStub
from serving.speech_server.protos.speech_pb2 import GetModelRequest, ListSuggestionsRequest, RecognizeRequest
from serving.speech_server.protos.speech_pb2_grpc import SpeechStub
from tests.containers.stack import compose_command, service_of
from tests.tones import tone
from tests.waiting import PATIENCE, RUN_PATIENCE, wait_for
from train_server.lenet5.model import LENET5
from windtunnel.data.clips import WORDS
from windtunnel.data.datasets import KNOWN, find
from windtunnel.data.wav import wav_bytes
from windtunnel.settings import ROOT

SHORT = {"samples": 2000, "epochs": 1, "margin": 1, "benchmark_seconds": 0}  # whatever its accuracy, a version is promoted
FLAGS = [word for name, value in SHORT.items() for word in ("--param", f"{name}={value}")]
SUGGESTIONS = 100  # after which the speech server has its model retrained
MEMORY = 8 * 2**30


class Runs:
    """Runs of a DAG, through Airflow's REST API from outside."""

    def __init__(self, stack, dag="lenet5"):
        self.dag = dag
        self.airflow = stack.airflow()
        self.airflow.params(dag)  # waits for the DAG
        self.http = self.airflow.http

    def start(self, **conf):
        return self.airflow.trigger(self.dag, SHORT | conf)

    def latest(self):
        reply = self.http.get(f"/api/v2/dags/{self.dag}/dagRuns", params={"order_by": "-run_after", "limit": 1})
        return reply.raise_for_status().json()["dag_runs"][0]["dag_run_id"]

    def tasks(self, run_id):
        reply = self.http.get(f"/api/v2/dags/{self.dag}/dagRuns/{run_id}/taskInstances", params={"limit": 1000})
        return reply.raise_for_status().json()["task_instances"]

    def end(self, run_id, state="success"):
        """Wait for a run's end and return its tasks."""
        run = wait_for(lambda: (run := self.airflow.run(self.dag, run_id)).ended and run, RUN_PATIENCE)
        unwell = {task.name: self.airflow.log(task)[-15:] for task in run.tasks if task.state == "failed"}
        assert run.state == state, json.dumps(unwell, indent=2)
        return self.tasks(run_id)

    def cancel(self, run_id):
        self.http.patch(f"/api/v2/dags/{self.dag}/dagRuns/{run_id}", json={"state": "failed"}).raise_for_status()


@pytest.fixture(scope="module")
def runs(stack):
    return Runs(stack)


def task_containers(stack, *labels):
    return stack.engine.containers(f"windtunnel.project={stack.project}", *labels)


def labels_of(stack, container):
    """A container's labels; none of one that has gone meanwhile."""
    found = stack.engine.docker("inspect", "--format", "{{json .Config.Labels}}", container, check=False)
    return json.loads(found) if found else {}


def champions(stack):
    """What `windtunnel models` says users really get, by registered model."""
    known = json.loads(stack.run("models", "--json"))
    return {each["name"]: each["version"] for each in known if "champion" in each["aliases"]}


def digit():
    from PIL import Image

    return np.array(Image.open(ROOT / "img" / "digit.png"), np.float32)[None, :, :, None]


def ask(stack, framework):
    """The label a champion gives to the picture of a digit, asked from outside as a user would."""
    settings = stack.settings
    if framework == "tensorflow":
        url = f"{settings.server(TFServingSettings).address}/v1/models/lenet5-tensorflow:predict"
        answer = httpx.post(url, json={"instances": digit().tolist()}, trust_env=False, timeout=PATIENCE).raise_for_status().json()
        return int(np.argmax(answer["predictions"][0]["probabilities"]))
    keys = json.loads(stack.read("torchserve", "/var/lib/windtunnel/serving/torchserve/key_file.json"))
    answer = httpx.post(
        f"{settings.server(TorchServeSettings).address}/predictions/lenet5-{framework}",
        headers={"Authorization": f"Bearer {keys['inference']['key']}"},
        content=(ROOT / "img" / "digit.png").read_bytes(),
        trust_env=False,
    )
    return answer.raise_for_status().json()["label"]


def answers(stack):
    """What the champions say to the picture of a digit: if they know digits, 7; else something, of which the same is expected later."""
    found = {framework: ask(stack, framework) for framework in LENET5.default_frameworks}
    assert find(KNOWN["mnist"]) is None or set(found.values()) == {7}
    return found


def test_everything_is_healthy_within_the_memory_it_may_take(stack, record_property):
    record_property("from `up` to healthy", f"{stack.seconds_to_healthy:.0f} s")
    record_property("memory of the whole stack", f"{stack.memory() / 2**30:.1f} GiB")
    services = {service_of(each): each for each in stack.inspect()}
    limits = {name: each["HostConfig"]["Memory"] for name, each in services.items() if each["State"]["Running"]}
    assert all(limits.values()), f"without a limit: {[name for name, limit in limits.items() if not limit]}"
    assert sum(limits.values()) <= MEMORY
    for name, each in services.items():
        assert not each["HostConfig"]["Privileged"], name


def test_the_engine_is_within_reach_of_the_worker_alone(stack):
    socket = stack.environment["DOCKER_SOCKET"]
    networks = {}
    for each in stack.inspect():
        name = service_of(each)
        networks[name] = set(each["NetworkSettings"]["Networks"])
        assert (socket in {mount["Source"] for mount in each["Mounts"]}) == (name == "docker-proxy")
        assert not each["HostConfig"]["PortBindings"] or name not in ("docker-proxy", "airflow-worker", "postgres", "redis")
    engine = f"{stack.project}_engine"
    assert {name for name, joined in networks.items() if engine in joined} == {"docker-proxy", "airflow-worker"}


def test_a_run_in_containers_makes_champions_that_answer_on_both_servers(stack, runs):
    before = champions(stack)
    tasks = runs.end(runs.start(benchmark_seconds=0.05))
    assert {task["state"] for task in tasks if task["task_id"] != "release.fire_drill"} == {"success"}
    assert {task["operator"] for task in tasks if task["task_id"] in ("framework.train", "measure")} == {"ContainerOperator"}
    after = champions(stack)
    assert set(after) == {f"lenet5-{framework}" for framework in LENET5.default_frameworks}
    assert all(after[name] != before.get(name) for name in after)
    assert set(answers(stack)) == set(LENET5.default_frameworks)
    assert not task_containers(stack)


def test_suggestions_alone_have_a_model_trained_in_containers_that_the_speech_server_answers_with(stack):
    runs = Runs(stack, "speech_commands")
    with grpc.insecure_channel(stack.settings.server(SpeechSettings).address, [("grpc.enable_http_proxy", 0)]) as channel:
        old, speech = DLServerStub(channel), SpeechStub(channel)
        for number in range(SUGGESTIONS):
            word = number % len(WORDS)
            old.Train(TrainingRequest(label=word, audio_samples=tone(word, 1000 + number).tolist()), timeout=PATIENCE)
        wait_for(
            lambda: speech.GetModel(GetModelRequest(), timeout=PATIENCE).champion == 1,
            RUN_PATIENCE,
            lambda: stack.compose("logs", "speech"),
        )
        tasks = {task["task_id"]: task for task in runs.end(runs.latest())}
        assert {name for name, task in tasks.items() if task["state"] != "success"} == {"baseline", "fire_drill"}  # which are not asked for
        assert {task["operator"] for name, task in tasks.items() if name not in ("approve", "watcher")} == {"ContainerOperator"}
        assert len(speech.ListSuggestions(ListSuggestionsRequest(state="trained"), timeout=PATIENCE).suggestions) == SUGGESTIONS
        heard = [old.Infer(InferenceRequest(audio_samples=tone(word, 2000).tolist()), timeout=PATIENCE).label for word in range(len(WORDS))]
    assert sum(label == word for word, label in enumerate(heard)) >= 7
    assert champions(stack)["speech-commands"] == 1
    assert not task_containers(stack)


def test_the_speech_servers_client_is_in_its_container(stack, tmp_path):
    with grpc.insecure_channel(stack.settings.server(SpeechSettings).address, [("grpc.enable_http_proxy", 0)]) as channel:
        ask = SpeechStub(channel).Recognize
        clips = (tone(0, seed) for seed in range(3000, 3010))  # the server rejects about one of twenty
        known = next(clip for clip in clips if not ask(RecognizeRequest(samples=clip.tolist()), timeout=PATIENCE).rejected)
    (tmp_path / "clip.wav").write_bytes(wav_bytes(known))
    client = ("exec", "-T", "speech", "dlserver_testclient", f"localhost:{stack.settings.server(SpeechSettings).port}")
    with (tmp_path / "clip.wav").open("rb") as clip:
        done = subprocess.run([*compose_command(), *client], cwd=ROOT, env=stack.environment, stdin=clip, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("down\n", "")


def test_the_notebook_runs_against_the_stack(stack):
    short = json.dumps({"rounds": 1, "seconds": 0.1, "concurrency": [10], "batch": [1], "requests": 100})
    papermill = ("--entrypoint", "papermill", "windtunnel", "notebooks/lenet5_benchmark.ipynb", "-", "-y", short)
    executed = stack.compose("run", "--rm", "-T", *papermill)
    outputs = [output for cell in json.loads(executed)["cells"] for output in cell.get("outputs", [])]
    assert [output for output in outputs if output["output_type"] == "error"] == []
    rows = re.findall(
        r"│ lenet5-(?:libtorch|pytorch|tensorflow) +│ (?:REST|gRPC) +│ (\d+) of (\d+) ",
        "".join("".join(output.get("text", "")) for output in outputs),
    )
    assert len(rows) == 2 * len(LENET5.default_frameworks)
    assert all(right == asked for right, asked in rows)


def test_a_run_that_is_cancelled_leaves_no_container(stack, runs):
    run_id = runs.start(frameworks=["pytorch"], epochs=1000)
    wait_for(lambda: task_containers(stack, "windtunnel.task=framework.train"), RUN_PATIENCE)
    runs.cancel(run_id)
    wait_for(lambda: not task_containers(stack))


def test_two_workers_share_the_tasks_and_a_training_container_that_is_killed_is_tried_again(stack, runs):
    stack.up("--scale", "airflow-worker=2", "--no-recreate")
    workers = {each["Id"][:12] for each in stack.inspect("airflow-worker")}
    assert len(workers) == 2
    other, long = runs.start(frameworks=["libtorch"]), runs.start(frameworks=["pytorch"], samples=8000, epochs=10)
    used, killed = set(), False
    while not all(runs.airflow.run("lenet5", run_id).ended for run_id in (other, long)):
        for container in task_containers(stack):
            used.add(labels_of(stack, container).get("windtunnel.worker"))
            if not killed and "epoch 1/10" in stack.engine.docker("logs", container, check=False):
                killed = bool(stack.engine.docker("kill", container, check=False))
        time.sleep(0.2)
    assert used - {None} == workers
    tries = {run_id: [task["try_number"] for task in runs.end(run_id) if task["task_id"] == "framework.train"] for run_id in (other, long)}
    assert tries == {other: [1], long: [2]}
    assert not task_containers(stack)


def test_a_worker_that_is_killed_leaves_no_container(stack, runs):
    run_id = runs.start(frameworks=["pytorch"], epochs=1000)
    [container] = wait_for(lambda: task_containers(stack, "windtunnel.task=framework.train"), RUN_PATIENCE)
    stack.engine.docker("kill", labels_of(stack, container)["windtunnel.worker"])
    wait_for(lambda: container[:12] not in [each[:12] for each in task_containers(stack)])
    runs.cancel(run_id)
    wait_for(lambda: not task_containers(stack))


def test_what_was_released_is_there_after_down_and_up_as_a_swarm(stack, runs, swarm):
    """The same volumes, and every task a service of the Swarm. A task that ran when it went down leaves nothing either.

    The run is the command line's, in its container: it follows the run, and prints what works outside.
    """
    before, said = champions(stack), answers(stack)
    run_id = runs.start(frameworks=["pytorch"], epochs=1000)
    wait_for(lambda: task_containers(stack, "windtunnel.task=framework.train"), RUN_PATIENCE)
    stack.down()
    assert not stack.inspect()
    assert not task_containers(stack)
    stack.files = ("docker-compose.yml", "docker-compose.swarm.yml")
    stack.up()
    runs = Runs(stack)
    runs.cancel(run_id)
    assert champions(stack) == before
    assert answers(stack) == said

    printed = stack.run("run", "lenet5", *FLAGS, "--param", "frameworks=libtorch")
    tasks = runs.end(runs.latest())
    assert {task["operator"] for task in tasks if task["task_id"] == "framework.train"} == {"ServiceOperator"}
    [train] = [task for task in runs.airflow.run("lenet5", tasks[0]["dag_run_id"]).tasks if task.name == "framework.train[libtorch]"]
    assert any(line.startswith("epoch 1/1") for line in runs.airflow.log(train))
    after = champions(stack)
    assert [name for name in before if after[name] != before[name]] == ["lenet5-libtorch"]
    assert answers(stack) == said | {"libtorch": ask(stack, "libtorch")}
    assert not stack.engine.docker("service", "ls", "-q")

    # The tools' container prints addresses that work outside.
    assert stack.settings.mlflow_url in printed
    command = re.search(r"^ *keys=.*?curl .*?\\\n.*?$", printed, re.MULTILINE | re.DOTALL)
    assert command, printed
    typed = ["bash", "-c", command[0].replace("docker compose", " ".join(compose_command()))]
    done = subprocess.run(typed, cwd=ROOT, env=stack.environment, capture_output=True, text=True)
    assert json.loads(done.stdout)["version"] == after["lenet5-libtorch"]
