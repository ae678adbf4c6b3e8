"""A backend without a server, which only answers."""

from serving.backends.base import Served, Server


class FakeServer(Server):
    """Gives the first rows of these outputs, as many as there are samples, and notes what it was asked."""

    name = "fake"

    def __init__(self, outputs):
        self.outputs, self.asked = outputs, []

    def predict(self, name, samples, number=None, protocol="rest"):
        self.asked.append((name, samples, number, protocol))
        return {output: rows[: len(samples)] for output, rows in self.outputs.items()}

    def publish(self, version):
        raise NotImplementedError

    def ready(self, name, number):
        return True

    def requests(self, name, batches, number, protocol):
        raise NotImplementedError

    def promote(self, name, number):
        raise NotImplementedError

    def withdraw(self, name, number):
        raise NotImplementedError

    def served(self, name):
        return Served(frozenset(), None)

    def published(self, name):
        return frozenset()

    def names(self):
        return []

    def example(self, name):
        return ""
