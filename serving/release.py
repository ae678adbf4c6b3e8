"""A release: publish → warm → verify → promote, or roll back. It moves a server towards what the registry's aliases say.

Users get the `champion`; `previous`, the champion before, stays loaded for an instant way back; the `challenger` answers to its
number alone. Whatever else is loaded is withdrawn, once the champion has answered. Each step can be taken again, so a release that was
cut off anywhere is mended by the next one, or by `reconcile`.
"""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from serving import audit, golden
from serving.server import Server, ServerError, Version
from serving.servers import SERVERS, connect, find_server, server_of
from windtunnel.aliases import ALIASES, Aliases
from windtunnel.errors import WindtunnelError
from windtunnel.locks import held
from windtunnel.manifest import verify_version
from windtunnel.settings import Settings

STEP_SECONDS = 900.0
"""How long a step of a release waits for another step of the same model's to end."""


@dataclass(frozen=True)
class Cause:
    """Why users get another version: for the audit log. `who` is a person or a DAG, `run` the DAG run, if there is one."""

    who: str
    why: str
    run: str | None = None


class Release:
    """The releases of one registered model.

    Raises, from every method:
        WindtunnelError: registry or server do not answer or refuse, or the version is not what the registry holds.
    """

    def __init__(self, settings: Settings, name: str, server: Server | None = None) -> None:
        self.name = name
        self.server = server or connect(server_of(name), settings)
        self._settings = settings
        self._aliases = Aliases(settings)

    def publish(self, number: int) -> None:
        """Have a version loaded and warm beside those that are. It answers to its number alone, and to nobody's alias."""
        with self._lock():
            self._load(self._fetch(number))

    def verify(self, number: int) -> None:
        """Make a version that answers as its trainer did the challenger; one that does not is withdrawn.

        Raises:
            WrongAnswerError: what is wrong with its answers.
        """
        with self._lock():
            self._prove(self._fetch(number))
            if self._aliases.of(self.name).get("champion") != number:
                self._aliases.move(self.name, "challenger", number)
            self._tidy()

    def promote(self, number: int, cause: Cause) -> None:
        """Let users get a version: the registry's alias moves first, then the server, then the answers are verified once more.

        Raises:
            WrongAnswerError: the version was turned away; where users got it already, they get again what they got before.
        """
        with self._lock():
            before = self._aliases.of(self.name)
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
                self._note("promote", champion, number, cause)
            self._tidy()

    def rollback(self, cause: Cause) -> int:
        """Let users get the version they got before, and return it. A second rollback takes the first one back.

        Raises:
            WindtunnelError: there is no version to go back to.
        """
        previous = self._aliases.of(self.name).get("previous")
        if previous is None:
            raise WindtunnelError(f"{self.name} has no previous version: choose one with `windtunnel deploy {self.name}@VERSION`")
        self.promote(previous, cause)
        return previous

    def try_out(self, version: Version) -> None:
        """Load and verify a version that is not registered, and withdraw it.

        Raises:
            WindtunnelError: it cannot be loaded, or answers wrong.
        """
        with self._lock():
            self._prove(version)
            self._withdraw(version.number)

    def fetch(self, number: int) -> Version:
        """A registered version with its files, held against its manifest."""
        with self._lock():
            return self._fetch(number)

    def reconcile(self) -> list[str]:
        """Make the server serve what the registry's aliases say, and return what was changed, a line each.

        A champion that answers wrong, or cannot be loaded, makes way for the previous one; one that is late stays, since it was in time
        when it was released, and the machine may be busy. A server that does not answer is waited for.
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
            return [f"version {champion}, the champion, was turned away: {error}"]
        return [f"users get version {champion}"]

    def _load(self, version: Version) -> None:
        """Have a version loaded and answering; one that cannot be is withdrawn."""
        try:
            self.server.load(version)
        except WindtunnelError:
            self._turn_away(version.number)
            raise

    def _prove(self, version: Version, in_time: bool = True) -> None:
        """Have a version loaded, and verified through the real protocols; one that answers wrong is withdrawn."""
        self._load(version)
        try:
            golden.verify(self.server, version, in_time=in_time)
        except WindtunnelError:
            self._turn_away(version.number)
            raise

    def _switch(self, version: Version, in_time: bool = True) -> None:
        """Let users get a version that is loaded, and see that they do."""
        self.server.promote(version.name, version.number)
        golden.verify(self.server, version, addressed=False, in_time=in_time)

    def _go_back(self, number: int, before: dict[str, int], error: WindtunnelError) -> None:
        """Undo a promotion that failed: the aliases first, then the server."""
        champion, previous = [
            *(before[alias] for alias in ("champion", "previous") if before.get(alias) not in (None, number)),
            None,
            None,
        ][:2]
        challenger = before.get("challenger")
        self._aliases.move(self.name, "champion", champion)
        self._aliases.move(self.name, "previous", previous)
        self._aliases.move(self.name, "challenger", None if challenger == number else challenger)
        self._note("roll back", number, champion, Cause("windtunnel", str(error)))
        with suppress(ServerError):  # the error that led here is the one to show; reconcile does what is left
            if champion is not None:
                self._load(self._fetch(champion))
                self.server.promote(self.name, champion)
            self._withdraw(number)

    def _turn_away(self, number: int) -> None:
        """Withdraw a version that cannot be used, unless it is the champion: then there may be nothing else for users."""
        with suppress(ServerError):  # the error that led here is the one to show; reconcile does what is left
            if self._aliases.of(self.name).get("champion") != number:
                self._withdraw(number)

    def _tidy(self) -> list[str]:
        """Withdraw what no alias names, once the champion is served; return what was done."""
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
        """A version's files, out of the registry unless they are here already and unchanged."""
        directory = self._directory(number)
        try:
            verify_version(directory)
        except WindtunnelError:
            from windtunnel import registry, tracking  # MLflow's client takes longer to import than a rollback may take

            with tracking.reachable(self._settings):
                mlflow = tracking.client(self._settings)
                registry.fetch(mlflow, registry.get_version(mlflow, self.name, number), directory)
        return Version(self.name, number, directory)

    def _directory(self, number: int) -> Path:
        return self._settings.serving / "versions" / self.name / str(number)

    def _note(self, action: str, old: int | None, new: int | None, cause: Cause) -> None:
        server = self.server.name
        audit.note(
            self._settings.serving,
            **{"action": action, "model": self.name, "from_version": old, "to_version": new, "server": server},
            **{"who": cause.who, "run": cause.run, "why": cause.why},
        )

    def _lock(self) -> AbstractContextManager[None]:
        """One step of one model's releases at a time; the others wait."""
        return held(self._settings.serving / "locks" / self.name, f"the release of {self.name}", STEP_SECONDS)


def reconcile(settings: Settings, server: Server, say: Callable[[str], None] = lambda line: None) -> list[str]:
    """Make one server serve what the registry says, of every model it has or should have; return what was changed, a line each."""
    registered = [name for name in Aliases(settings).all() if find_server(name) == server.name]
    changes = []
    for name in sorted({*registered, *server.names()}):
        for change in Release(settings, name, server).reconcile():
            say(change)
            changes.append(change)
    return changes


def reconcile_all(settings: Settings, say: Callable[[str], None] = lambda line: None) -> tuple[list[str], list[str]]:
    """Make every server serve what the registry says; return what was changed, and what could not be done, a line each."""
    changes, problems = [], []
    for name in sorted(set(SERVERS.values())):
        try:
            changes += reconcile(settings, connect(name, settings), say)
        except WindtunnelError as error:
            problems.append(str(error))
    return changes, list(dict.fromkeys(problems))  # a registry that does not answer is one problem, whatever was to be served
