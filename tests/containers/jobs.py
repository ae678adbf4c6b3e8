"""Tasks on a real engine, run by Airflow itself, in a process of its own that tests can kill."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.containers.engine import Engine
from tests.waiting import PATIENCE, wait_for
from windtunnel.settings import ROOT, Settings

HERE = Path(__file__).parent
DAGS = HERE / "dags"


@dataclass
class Jobs:
    """Runs tasks in an image with `settings`; `home` is where Airflow has its database."""

    engine: Engine
    settings: Settings
    home: Path

    @property
    def environment(self):
        airflow = {"AIRFLOW_HOME": self.home, "AIRFLOW__CORE__DAGS_FOLDER": DAGS, "AIRFLOW__CORE__LOAD_EXAMPLES": "false"}
        return os.environ | self.settings.variables | {name: str(value) for name, value in airflow.items()} | {"PYTHONPATH": str(ROOT)}

    def start(self, **jobs):
        """Start Airflow on these tasks, each a dictionary as `tests/containers/dags/jobs.py` says."""
        told = {"JOBS": json.dumps(jobs), "RESULTS": str(self.home / "results.json")}
        with (self.home / "log").open("wb") as log:
            return subprocess.Popen([sys.executable, DAGS / "jobs.py"], env=self.environment | told, stdout=log, stderr=log)

    def run(self, **jobs):
        """Run these tasks to their end, and return how each of them ended."""
        assert self.start(**jobs).wait(PATIENCE) == 0, self.log
        return json.loads((self.home / "results.json").read_text())

    @property
    def log(self):
        return (self.home / "log").read_text()

    def mine(self):
        """The ids of this project's containers, running or not."""
        return self.engine.containers(f"windtunnel.project={self.settings.docker_project}")

    def wait_for(self, condition):
        """Wait until `condition()` is true, and return what it was."""
        return wait_for(condition, explain=lambda: self.log)


@contextmanager
def jobs_of(engine: Engine, images: dict[str, str], runtime: str, home: Path) -> Iterator[Jobs]:
    """A runner of tasks in a project of its own, whose image is the trainers' and has the tasks' program too; `home` is empty."""
    project = f"windtunnel-{runtime}-{os.getpid()}"
    data = home / "data"
    (data / "a-data-set").mkdir(parents=True)
    data.chmod(0o755)
    image = f"{project}/train_server:1"
    base = "{WINDTUNNEL_IMAGES}/train_server:{WINDTUNNEL_IMAGE_TAG}".format(**images)
    engine.docker("build", "-q", "--build-arg", f"BASE_IMAGE={base}", "-t", image, str(HERE / "job"))
    settings = Settings(
        home="/var/lib/windtunnel",
        runtime=runtime,
        images=project,
        image_tag="1",
        docker_url=engine.url,
        docker_project=project,
        docker_data=str(data),
        task_memory="64m",
        task_cpus=0.5,
    )
    jobs = Jobs(engine, settings, home)
    driver = ["--driver", "overlay", "--attachable"] if runtime == "swarm" else []
    engine.docker("network", "create", *driver, f"{project}_tasks")
    try:
        subprocess.run([Path(sys.executable).parent / "airflow", "db", "migrate"], env=jobs.environment, check=True, capture_output=True)
        yield jobs
    finally:
        for container in jobs.mine():
            engine.docker("rm", "--force", container)
        jobs.wait_for(lambda: not engine.docker("ps", "-aq", "--filter", f"name={project}"))  # Swarm removes those of a service after it
        engine.docker("network", "rm", f"{project}_tasks")
        for volume in engine.docker("volume", "ls", "-q", "--filter", f"name={project}_").split():
            engine.docker("volume", "rm", volume)
        engine.docker("rmi", "--force", image)
