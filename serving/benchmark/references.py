"""The rates with which a benchmark compares a served rate: the artefact's in-process ceiling and the server's no-op baseline."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from serving.backends.base import Protocol, Version
from serving.benchmark.in_process_ceiling import Forward, forward, samples_per_second
from serving.benchmark.no_op_baseline import Place, mark, place_of
from serving.benchmark.subjects import Subject
from serving.load.requests import batches
from windtunnel.errors import WindtunnelError

CEILING_SHARE = 1 / 3
"""Fraction of a measurement's seconds: a ceiling involves no server and no other process, so it varies less."""


def load_artefacts(subjects: Iterable[Subject], say: Callable[[str], None]) -> dict[Subject, Forward]:
    """Load the artefacts that can be computed in process; report those that cannot. Importing their runtimes takes seconds."""
    forwards = {}
    for subject in subjects:
        try:
            forwards[subject] = forward(subject.version)
        except WindtunnelError as error:
            say(f"{subject.version} is measured without its in-process ceiling: {error}")
    return forwards


class References:
    """Measures ceilings and baselines. If one fails, it is reported once and is None from then on."""

    def __init__(
        self, forwards: Mapping[Subject, Forward], baselines: Mapping[Place, Version], seconds: float, say: Callable[[str], None]
    ) -> None:
        """Initialise without measuring.

        Args:
            forwards: the forward passes that compute the ceilings.
            baselines: the loaded baselines.
            seconds: length of each measurement.
            say: called with each message.
        """
        self._forwards = dict(forwards)
        self._baselines = dict(baselines)
        self._seconds = seconds
        self._say = say

    def ceiling(self, subject: Subject, batch: int) -> float | None:
        """Return the samples per second that a version's artefact computes in process; None if it cannot be computed here."""
        if subject not in self._forwards:
            return None
        places = np.arange(batch) % len(subject.samples)
        samples, labels = subject.samples[places], subject.labels[places]
        try:
            return samples_per_second(self._forwards[subject], samples, labels, CEILING_SHARE * self._seconds)
        except WindtunnelError as error:
            self._say(f"{subject.version} is measured without its in-process ceiling: {error}")
            del self._forwards[subject]
            return None

    def baseline(self, subject: Subject, protocol: Protocol, concurrency: int, batch: int) -> float | None:
        """Return the requests per second that a version's server answers without a model; None if it has no baseline."""
        server, where = subject.server, place_of(subject)
        if where not in self._baselines:
            return None
        baseline = self._baselines[where]
        samples = mark(subject)
        try:
            requests = server.requests(baseline.name, batches(samples, subject.labels, batch), baseline.number, protocol)
            # Only the answers to the requests that are sent are checked; the other samples are not used.
            return requests.slice(concurrency, self._seconds).requests_per_second
        except WindtunnelError as error:
            self._say(f"{server.name} is measured without its no-op baseline: {error}")
            del self._baselines[where]
            return None
