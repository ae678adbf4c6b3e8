"""A release: publish → warm up → verify → promote, or roll back. It moves a server towards what the registry's aliases say.

Users get the `champion`. `previous`, the champion before it, stays loaded for an instant rollback. The `challenger` answers only to its
version number. All other versions are withdrawn once the champion has answered. Each step is idempotent, so an interrupted release is
completed by the next one or by `reconcile`.
"""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from serving.backends.base import Server, ServerError, Version
from serving.backends.catalog import connect, find_server, server_of
from serving.release import audit, golden
from windtunnel.aliases import ALIASES, Aliases
from windtunnel.backend import backends
from windtunnel.errors import VersionError, WindtunnelError
from windtunnel.locks import held
from windtunnel.settings import Settings
from windtunnel.signatures import trusted_key, verify

STEP_SECONDS = 900.0
"""Timeout for waiting until another step of the same model's release ends."""


@dataclass(frozen=True)
class Cause:
    """Why users get another version, for the audit log.

    `who` is a person or a DAG. `run` is the name of the DAG run, if there is one, and `run_id` its id in Airflow, which does not follow
    from the name.
    """

    who: str
    why: str
    run: str | None = None
    run_id: str | None = None


def local_copy(settings: Settings, name: str, number: int) -> Path:
    """Return the directory in which a release keeps a version."""
    return settings.serving / "versions" / name / str(number)


class Release:
    """The releases of one registered model.

    Every method raises:
        VersionError: a version's files or its signature are not what was registered. Nothing was changed.
        WindtunnelError: the registry or the server does not answer or refuses.
    """

    def __init__(self, settings: Settings, name: str, server: Server | None = None) -> None:
        self.name = name
        self.server = server or connect(server_of(name), settings)
        self._settings = settings
        self._aliases = Aliases(settings)

    def publish(self, number: int) -> None:
        """Load and warm up a version next to the others. It answers only to its version number and has no alias."""
        with self._lock():
            self._load(self._fetch(number))

    def verify(self, number: int) -> None:
        """Make a version the challenger if it answers as its trainer did; otherwise withdraw it.

        Raises:
            WrongAnswerError: its answers are wrong; the message says how.
        """
        with self._lock():
            self._prove(self._fetch(number))
            if self._aliases.of(self.name).get("champion") != number:
                self._aliases.move(self.name, "challenger", number)
            self._tidy()

    def promote(self, number: int, cause: Cause) -> None:
        """Make a version the champion: first move the registry's alias, then switch the server, then verify the answers once more.

        Raises:
            WrongAnswerError: the version was rejected. If users got it already, they get the former champion again.
        """
        with self._lock():
            self._make_champion(number, "promote", self._aliases.of(self.name), cause)

    def _make_champion(self, number: int, action: str, before: dict[str, int], cause: Cause) -> None:
        """Make a version the champion, under the lock. `before` are the aliases as they are."""
        champion = before.get("champion")
        version = self._fetch(number)
        self._prove(version)
        if champion != number:
            self._aliases.move(self.name, "previous", champion)
            self._aliases.move(self.name, "champion", number)
        try:
            self._switch(version)
        except WindtunnelError as error:
            self._go_back(number, before, error)
            raise
        if before.get("challenger") == number:
            self._aliases.move(self.name, "challenger", None)
        if champion != number:
            self._note(action, champion, number, cause)
        self._tidy()

    def rollback(self, cause: Cause) -> int:
        """Return users to the previous version, and return its number. A second rollback undoes the first.

        Raises:
            WindtunnelError: there is no previous version.
        """
        with self._lock():
            before = self._aliases.of(self.name)
            previous = before.get("previous")
            if previous is None:
                raise WindtunnelError(f"{self.name} has no previous version. Choose one with `windtunnel deploy {self.name}@VERSION`")
            self._make_champion(previous, "roll back", before, cause)
            return previous

    def return_to(self, number: int, cause: Cause) -> bool:
        """Return users to version `number`, the previous one; return False if they get it already. A second time undoes nothing.

        Raises:
            WindtunnelError: another version is the previous one.
        """
        with self._lock():
            before = self._aliases.of(self.name)
            champion, previous = before.get("champion"), before.get("previous")
            if number not in (champion, previous):
                found = f"found {previous or 'none'}, and version {champion or 'none'} as the champion"
                step = "Users were given another version meanwhile: look again, and then decide"
                raise WindtunnelError(f"the previous version of {self.name} is not {number}: {found}. {step}")
            if number == champion == self.server.served(self.name).champion:
                return False
            self._make_champion(number, "roll back", before, cause)  # of the champion: an interrupted rollback is completed
            return True

    def try_out(self, version: Version) -> None:
        """Load and verify an unregistered version, then withdraw it.

        Raises:
            WindtunnelError: it cannot be loaded, or its answers are wrong.
        """
        with self._lock():
            self._prove(version)
            self._withdraw(version.number)

    def fetch(self, number: int) -> Version:
        """Return a registered version with its files, whose signature was verified."""
        with self._lock():
            return self._fetch(number)

    def reconcile(self) -> list[str]:
        """Make the server serve what the registry's aliases say, and return the changes, a line each.

        A champion that gives wrong answers, or cannot be loaded, is replaced by the previous one. A champion that is late stays: it was
        on time when it was released, and the machine may be busy. A champion that is damaged or without a valid signature is not loaded,
        but goes on answering where it is. If the server does not answer, the error is raised, so that the caller can retry.

        Raises:
            VersionError: the champion has to be loaded, but its files or its signature are not what was registered.
        """
        with self._lock():
            aliases = self._aliases.all().get(self.name, {})
            changes = []
            for alias in ALIASES:
                number = aliases.get(alias)
                if number is None or number in self.server.served(self.name).versions:
                    continue
                try:
                    self._load(self._fetch(number))
                    changes.append(f"loaded version {number}, the {alias}")
                except WindtunnelError as error:
                    changes.append(f"could not load version {number}, the {alias}: {error}")
            changes += self._serve_champion(aliases)
            return [f"{self.name} on {self.server.name}: {change}" for change in [*changes, *self._tidy()]]

    def _serve_champion(self, aliases: dict[str, int]) -> list[str]:
        champion = aliases.get("champion")
        if champion is None or self.server.served(self.name).champion == champion:
            return []
        version = self._fetch(champion)
        try:
            self._prove(version, in_time=False)
            self._switch(version, in_time=False)
        except WindtunnelError as error:
            if isinstance(error, ServerError) and error.retriable:
                raise
            self._go_back(champion, aliases, error)
            return [f"version {champion}, the champion, was rejected: {error}"]
        return [f"users get version {champion}"]

    def _load(self, version: Version) -> None:
        """Load a version and wait until it answers; withdraw it if that fails."""
        try:
            self.server.load(version)
        except WindtunnelError:
            self._turn_away(version.number)
            raise

    def _prove(self, version: Version, in_time: bool = True) -> None:
        """Load a version and verify it over the real protocols; withdraw it if its answers are wrong."""
        self._load(version)
        try:
            golden.verify(self.server, version, in_time=in_time)
        except WindtunnelError:
            self._turn_away(version.number)
            raise

    def _switch(self, version: Version, in_time: bool = True) -> None:
        """Make a loaded version the one that users get, and verify that they do."""
        self.server.promote(version.name, version.number)
        golden.verify(self.server, version, addressed=False, in_time=in_time)

    def _go_back(self, number: int, before: dict[str, int], error: WindtunnelError) -> None:
        """Undo a failed promotion: the aliases first, then the server."""
        others = {alias: other for alias, other in before.items() if other != number}
        champion, previous = others.get("champion"), others.get("previous")
        if champion is None:  # `number` was the champion already, or there was no champion
            champion, previous = previous, None
        self._aliases.move(self.name, "champion", champion)
        self._aliases.move(self.name, "previous", previous)
        self._aliases.move(self.name, "challenger", others.get("challenger"))
        self._note("roll back", number, champion, Cause("windtunnel", str(error)))
        with suppress(ServerError):  # report the original error; reconcile does the rest
            if champion is not None:
                with suppress(VersionError):  # no champion is better than the one that has just failed
                    if champion not in self.server.served(self.name).versions:
                        self._load(self._fetch(champion))
                    self.server.promote(self.name, champion)
            self._withdraw(number)

    def _turn_away(self, number: int) -> None:
        """Withdraw an unusable version, unless it is the champion: users might be left with nothing."""
        with suppress(ServerError):  # report the original error; reconcile does the rest
            if self._aliases.of(self.name).get("champion") != number:
                self._withdraw(number)

    def _tidy(self) -> list[str]:
        """Withdraw versions without an alias, once the champion is served; return the changes."""
        aliases = self._aliases.all().get(self.name, {})
        if "champion" in aliases and self.server.served(self.name).champion != aliases["champion"]:
            return []
        unwanted = sorted(self.server.published(self.name) - set(aliases.values()))
        for number in unwanted:
            self._withdraw(number)
        return [f"withdrew version {number}" for number in unwanted]

    def _withdraw(self, number: int) -> None:
        self.server.withdraw(self.name, number)
        shutil.rmtree(self._directory(number), ignore_errors=True)

    def _fetch(self, number: int) -> Version:
        """Return a version's files, signed. They are copied from the registry unless they are here already and unchanged."""
        directory, key = self._directory(number), trusted_key(self._settings)
        try:
            verify(directory, key, (self.name, number))
        except WindtunnelError:
            from windtunnel import registry, tracking  # importing MLflow's client takes longer than a rollback may take

            with tracking.reachable(self._settings):
                mlflow = tracking.client(self._settings)
                registry.fetch(mlflow, registry.get_version(mlflow, self.name, number), directory, key)
        return Version(self.name, number, directory)

    def _directory(self, number: int) -> Path:
        return local_copy(self._settings, self.name, number)

    def _note(self, action: str, old: int | None, new: int | None, cause: Cause) -> None:
        server = self.server.name
        audit.note(
            self._settings.serving,
            **{"action": action, "model": self.name, "from_version": old, "to_version": new, "server": server},
            **{"who": cause.who, "run": cause.run, "run_id": cause.run_id, "why": cause.why},
        )

    def _lock(self) -> AbstractContextManager[None]:
        """Allow one step of a model's releases at a time; others wait."""
        return held(self._settings.serving / "locks" / self.name, f"the release of {self.name}", STEP_SECONDS)


def reconcile(settings: Settings, server: Server, say: Callable[[str], None] = lambda line: None) -> list[str]:
    """Make one server serve what the registry says, for every model that it has or should have; return the changes, a line each.

    Raises:
        VersionError: champions that have to be loaded are damaged or not validly signed. What else there was to do is done.
        WindtunnelError: the registry or the server does not answer.
    """
    registered = [name for name in Aliases(settings).all() if find_server(name) == server.name]
    changes: list[str] = []
    unusable: list[str] = []
    for name in sorted({*registered, *server.names()}):
        try:
            for change in Release(settings, name, server).reconcile():
                say(change)
                changes.append(change)
        except VersionError as error:
            unusable.append(f"not loaded on {server.name}: {error}")
    if unusable:
        raise VersionError("; ".join(unusable))
    return changes


def reconcile_all(settings: Settings, say: Callable[[str], None] = lambda line: None) -> tuple[list[str], list[str]]:
    """Make every server serve what the registry says; return the changes, and the problems, a line each."""
    changes, problems = [], []
    for name in backends():
        try:
            changes += reconcile(settings, connect(name, settings), say)
        except WindtunnelError as error:
            problems.append(str(error))
    return changes, list(dict.fromkeys(problems))  # report a registry that does not answer only once
