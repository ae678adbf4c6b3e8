"""The speech server by itself: the documented command, without any right that it does not need, under Docker and under Podman."""

import os
import re
import shlex
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.speech_server.protos.dlserver_pb2 import InferenceRequest, TrainingRequest
from serving.speech_server.protos.dlserver_pb2_grpc import DLServerStub
from serving.speech_server.protos.speech_pb2 import GetModelRequest, ListSuggestionsRequest
from serving.speech_server.protos.speech_pb2_grpc import SpeechStub
from tests.documents import section
from tests.serving.speech_server.running_speech import DIRECT
from tests.serving.speech_server.speech_models import tone, write_version
from tests.waiting import PATIENCE, RUN_PATIENCE, wait_for
from tests.windtunnel.data.spoken import recordings, zipped
from windtunnel.data.clips import FULL_SCALE
from windtunnel.platform.ports import free_ports
from windtunnel.settings import ROOT

COMMAND = re.search(
    r"^docker run .* dlserver /etc/dlserver/server\.ini$", section("docs/spoken-commands.md", "## The server by itself"), re.MULTILINE
)[0]
HARDENED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")
# in a container's namespace Podman may not raise limits, and without systemd it has nobody to check the health
PODMAN = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", "--no-healthcheck")
LEFT, YES = 2, 7
SPEAKERS = tuple(f"{number:08x}" for number in range(16))  # enough for a batch to train with


@dataclass
class Runner:
    """Docker or Podman, `program` with its environment; a container and a volume `name` of `image`, on a `port` of loopback."""

    program: list[str]
    environment: dict[str, str]
    options: tuple[str, ...]
    image: str
    port: int
    name: str = f"dlserver-test-{os.getpid()}"

    def __call__(self, *arguments: str) -> str:
        command = [*self.program, *arguments]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run(command, env=self.environment, timeout=RUN_PATIENCE, **output)
        assert done.returncode == 0, f"{' '.join(command)} ended with status {done.returncode}: {done.stdout}"
        return done.stdout.strip()

    def start(self, *options: str) -> grpc.Channel:
        """Do what the page says, with names and a port of this test's own, until the server listens."""
        command = COMMAND
        ours = {"--name dlserver ": f"--name {self.name} ", "-p 55221:": f"-p 127.0.0.1:{self.port}:", "-v dlserver:": f"-v {self.name}:"}
        for said, meant in (ours | {"windtunnel/serving:0.2.0": self.image}).items():
            assert said in command
            command = command.replace(said, meant)
        _, run, *words = shlex.split(command)
        self(run, *self.options, *HARDENED, *options, *words)
        wait_for(lambda: "dlserver listens on 0.0.0.0:55221" in self.log(), explain=self.log)
        return grpc.insecure_channel(f"127.0.0.1:{self.port}", DIRECT)

    def log(self) -> str:
        return self("logs", self.name)

    def end(self) -> str:
        """Stop and remove the container; its exit status, which is 137 of one that has to be killed."""
        self("stop", "--time", str(int(PATIENCE)), self.name)
        status = self("inspect", "--format", "{{.State.ExitCode}}", self.name)
        self("rm", self.name)
        return status


@pytest.fixture(scope="module", params=["docker", "podman"])
def runner(request, engine, images):
    image = "{WINDTUNNEL_IMAGES}/serving:{WINDTUNNEL_IMAGE_TAG}".format(**images)
    port = free_ports(1)[0]
    with ExitStack() as stack:
        if request.param == "docker":
            runner = Runner([engine.client], engine.environment, (), image, port)
        else:
            # Podman's paths have to be short, as those of sockets.
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="podman")))
            program = ["podman", "--root", str(place / "storage"), "--runroot", str(place / "run")]
            runner = Runner(program, dict(os.environ), PODMAN, f"localhost/{image}", port)
            stack.callback(runner, "system", "reset", "--force")
            engine.docker("save", "--output", str(place / "image.tar"), image, timeout=RUN_PATIENCE)
            runner("load", "--input", str(place / "image.tar"))
            (place / "image.tar").unlink()
        yield runner
        if runner("ps", "--all", "--quiet", "--filter", f"name={runner.name}"):
            runner("rm", "--force", runner.name)
        runner("volume", "rm", "--force", runner.name)


@pytest.fixture(scope="module")
def mounted(tmp_path_factory) -> Path:
    """What a user may mount: a configuration, a model, and recordings, of nothing."""
    place = tmp_path_factory.mktemp("mounted")
    write_version(place / "model")
    (place / "recordings").mkdir()
    (place / "recordings" / "mini_speech_commands.zip").write_bytes(zipped(recordings(SPEAKERS)))
    (place / "configuration").mkdir()
    text = (ROOT / "server_container.ini").read_text()
    for said, meant in {
        "\nModelPath =": "\nModelPath = /var/lib/dlserver/model",
        "\nBaseSamplesPath =": "\nBaseSamplesPath = /recordings",
        "\nSamplesBeforeTrain = 100": "\nSamplesBeforeTrain = 2",
    }.items():
        assert said in text
        text = text.replace(said, meant)
    (place / "configuration" / "server.ini").write_text(text)
    subprocess.run(["chmod", "-R", "a+rX", place], check=True)  # by the image's user
    return place


def health(channel):
    request = health_pb2.HealthCheckRequest()
    return health_pb2.HealthCheckResponse.ServingStatus.Name(health_pb2_grpc.HealthStub(channel).Check(request, timeout=PATIENCE).status)


def suggest(channel, word):
    DLServerStub(channel).Train(TrainingRequest(label=word, audio_samples=tone(word)), timeout=PATIENCE)


def champion(channel):
    return SpeechStub(channel).GetModel(GetModelRequest(), timeout=PATIENCE).champion


def suggested(channel):
    return [each.label for each in SpeechStub(channel).ListSuggestions(ListSuggestionsRequest(), timeout=PATIENCE).suggestions]


def test_as_it_comes_it_has_no_model_and_says_so_and_takes_suggestions(runner):
    with runner.start() as channel:
        assert "with no model yet" in runner.log()
        assert health(channel) == "NOT_SERVING"
        with pytest.raises(grpc.RpcError) as caught:
            DLServerStub(channel).Infer(InferenceRequest(audio_samples=tone(YES)), timeout=PATIENCE)
        assert (caught.value.code(), caught.value.details()[:22]) == (grpc.StatusCode.UNAVAILABLE, "there is no model yet.")
        suggest(channel, LEFT)
        assert suggested(channel) == [LEFT]
    assert runner.end() == "0"


def test_another_container_on_the_volume_goes_on_with_a_mounted_configuration_and_model(runner, mounted):
    model, base = f"{mounted}/model:/var/lib/dlserver/model:ro", f"{mounted}/recordings:/recordings:ro"
    with runner.start("-v", f"{mounted}/configuration:/etc/dlserver:ro", "-v", model, "-v", base) as channel:
        assert health(channel) == "SERVING"
        for clip in (tone(YES), tone(YES) * FULL_SCALE):
            assert DLServerStub(channel).Infer(InferenceRequest(audio_samples=clip), timeout=PATIENCE).label == YES
        assert suggested(channel) == [LEFT]

        suggest(channel, YES)  # the second, which is enough
        wait_for(lambda: "the model was not retrained" in runner.log() or champion(channel) == 1, RUN_PATIENCE, explain=runner.log)
        assert champion(channel) == 1, runner.log()
        if not runner.options:
            assert runner("inspect", "--format", "{{.State.Health.Status}}", runner.name) == "healthy"
    assert runner.end() == "0"
