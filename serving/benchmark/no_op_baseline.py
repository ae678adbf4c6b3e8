"""The no-op baseline: a served version that computes nothing, so that only the server, its protocol and its client are measured.

It answers with multiples of a few numbers of its input: as many numbers as a model's answer, with as many digits; for LeNet-5 of an
image's first ten pixels. It is published through the servers' backends, next to the versions that they serve, and withdrawn at the end. All
versions of a model on a server share one.
"""

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from serving.backends.base import Server, ServerError, Version, baseline_name
from serving.benchmark.in_process_ceiling import SAVED_MODEL
from serving.benchmark.no_op import rows, take
from serving.benchmark.subjects import Subject
from windtunnel.errors import WindtunnelError

Place = tuple[Server, str]
"""A server, and the name of a model: where there is a baseline."""


def place_of(subject: Subject) -> Place:
    """Return where the baseline of a version is."""
    return subject.server, subject.model.name


def mark(subject: Subject) -> np.ndarray:
    """Return the samples of a version, changed so that the baseline gives them their labels. Pixels remain pixels."""
    marked = subject.samples.copy()
    count = math.prod(rows(subject.model)[subject.model.outputs[0].name])
    numbers = take(marked, subject.model.input.shape, count)
    numbers[:] = 1 + np.arange(count) % 250
    numbers[np.arange(len(subject.labels)), subject.labels] = 255
    return marked


@contextmanager
def baselines(subjects: Iterable[Subject], say: Callable[[str], None]) -> Iterator[dict[Place, Version]]:
    """Publish the baselines of versions while the context lasts. If one cannot be published, report the reason."""
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as withdrawals:
        published = {}
        for number, (where, subject) in enumerate({place_of(each): each for each in subjects}.items()):
            server = subject.server
            version = Version(baseline_name(subject.model), 1, Path(temporary) / str(number))
            withdrawals.callback(_withdraw, server, version, say)
            with _without(where, say):
                _write(subject, version.directory)
                server.publish(version)
                published[where] = version
        yield published


def loaded(published: Mapping[Place, Version], say: Callable[[str], None]) -> dict[Place, Version]:
    """Wait for published baselines and return those that their servers have loaded. If one fails, report the reason."""
    found = {}
    for where, version in published.items():
        with _without(where, say):
            where[0].wait(version)
            found[where] = version
    return found


@contextmanager
def _without(where: Place, say: Callable[[str], None]) -> Iterator[None]:
    try:
        yield
    except (WindtunnelError, ImportError) as error:
        say(f"{where[0].name} is measured without its no-op baseline: {error}")


def _withdraw(server: Server, version: Version, say: Callable[[str], None]) -> None:
    try:
        server.withdraw(version.name, version.number)
    except ServerError as error:  # the measurements are valid nevertheless
        say(f"the no-op baseline may still be on {server.name} ({error}). `windtunnel reconcile` withdraws it")


def _write(subject: Subject, directory: Path) -> None:
    """Write a baseline's artefact in the format of the version's export.

    Raises:
        WindtunnelError: there is no baseline in this format, or of this model.
    """
    export = directory / subject.framework.export
    directory.mkdir()
    if export.suffix == ".pt":
        from serving.benchmark.no_op_torchscript import write_no_op
    elif export.name == SAVED_MODEL:
        from serving.benchmark.no_op_savedmodel import write_no_op
    else:
        raise WindtunnelError(f"there is no baseline in the format of {export.name}: expected TorchScript (.pt) or {SAVED_MODEL}")
    write_no_op(export, subject.model)
