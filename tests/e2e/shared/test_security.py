"""What SECURITY.md says about a running platform: where it listens, and who can read its secrets."""

import json
import os
from contextlib import suppress
from pathlib import Path

import psutil

from serving.backends.torchserve.configuration import folders
from tests.documents import table
from windtunnel.platform.processes import GONE
from windtunnel.platform.secrets import PUBLIC_KEY
from windtunnel.server_settings import LOOPBACK


def files_below(folder):
    """Unlike `rglob`, it does not mind folders that vanish meanwhile."""
    return [Path(place, name) for place, _, names in os.walk(folder) for name in names]


def test_the_platform_listens_where_the_table_says_on_loopback_and_nowhere_else(platform):
    variables = platform.settings.variables
    rows = [row for row in table("SECURITY.md", "## Where the platform listens") if row["as a process, on"] != "no"]
    said = {(variables[row["as a process, on"].strip("`")], int(variables[row["setting of the port"].strip("`")])) for row in rows}
    assert {host for host, _ in said} == {LOOPBACK}
    listening = set()
    for process in platform.processes():
        with suppress(*GONE):
            found = [each.laddr for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN]
            listening |= {(address.ip.removeprefix("::ffff:"), address.port) for address in found}  # so Java writes an address of IPv4
    assert listening == said


def test_secrets_and_sockets_are_for_the_owner_alone(platform):
    files = list((platform.settings.home / "secrets").iterdir())
    assert {file.name for file in files if file.stat().st_mode & 0o777 != 0o600} == {PUBLIC_KEY}
    sockets = [file for file in files_below(platform.settings.home) if file.is_socket()]
    assert sockets
    assert [file for file in sockets if file.stat().st_mode & 0o077] == []


def test_no_secret_is_in_a_command_line_or_a_log(platform):
    platform.windtunnel("run", "trivial")  # there are logs of tasks, too
    texts = {file.name: file.read_text() for file in (platform.settings.home / "secrets").iterdir()}
    del texts[PUBLIC_KEY]
    secrets = {line for name, text in texts.items() if not name.endswith(".json") for line in text.splitlines() if "-----" not in line}
    secrets |= set(json.loads(texts["airflow-passwords.json"]).values())
    secrets |= {token["key"] for token in json.loads(folders(platform.settings).keys.read_text()).values()}
    assert len(secrets) == 11  # three keys and two passwords of Airflow, three tokens of TorchServe, three lines of the signing key
    logs = [file for file in files_below(platform.settings.home) if file.suffix == ".log"]
    places = {f"log {file}": file.read_text(errors="replace") for file in logs}
    for process in platform.processes():
        with suppress(*GONE):
            places[f"command line of {process}"] = " ".join(process.cmdline())
    assert len(places) > 20
    assert [place for place, text in places.items() if any(secret in text for secret in secrets)] == []
