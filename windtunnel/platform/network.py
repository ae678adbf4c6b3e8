"""Check the network variables of an environment: find those that httpx cannot use, and exclude hosts from proxies."""

import ipaddress
import re
import ssl
from collections.abc import Mapping

import httpx

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
NO_PROXY = ("NO_PROXY", "no_proxy")
FILES = ("SSL_CERT_FILE", "SSLKEYLOGFILE")  # httpx opens them for each client


def unusable(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which httpx cannot create a client at all, each with a message: the value found and the value expected."""
    found = {}
    for name, value in environment.items():
        if not value:
            continue
        if name.lower() in PROXIES and not _is_proxy(value):
            found[name] = f"found {_without_secrets(value)}, expected an HTTP proxy such as http://HOST:PORT"
        elif name in NO_PROXY and (entries := [entry for entry in _entries(value) if not _is_readable(entry)]):
            found[name] = f"found {', '.join(entries)} in {value}, expected host names, domains and addresses without brackets"
        elif name in FILES and (problem := _reading_problem(name, value)):
            found[name] = f"found {value}: {problem}"
    return found


def without_proxy(environment: Mapping[str, str], host: str) -> dict[str, str]:
    """Return the variables that make programs connect to `host` directly, in addition to the hosts that `environment` excludes."""
    value = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    return dict.fromkeys(NO_PROXY, ",".join([*filter(_is_readable, _entries(value)), host, "localhost"]))


def _entries(value: str) -> list[str]:
    return [entry.strip() for entry in value.split(",") if entry.strip()]


def _is_proxy(value: str) -> bool:
    try:
        httpx.HTTPTransport(verify=False, trust_env=False, proxy=value if "://" in value else f"http://{value}")
    except (ImportError, ValueError, httpx.InvalidURL):  # ImportError: SOCKS
        return False
    return True


def _without_secrets(proxy: str) -> str:
    return re.sub(r"//.*@", "//***@", proxy)


def _is_readable(entry: str) -> bool:
    """Whether httpx accepts an entry of NO_PROXY. It makes a URL pattern of each, which fails for an IPv6 network or brackets."""
    try:
        ipaddress.IPv6Address(entry.partition("/")[0])
        host = f"[{entry}]"
    except ValueError:
        host = f"*{entry}"
    try:
        httpx.URL(entry if "://" in entry else f"all://{host}")
    except httpx.InvalidURL:
        return False
    return True


def _reading_problem(name: str, file: str) -> str | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if name == "SSL_CERT_FILE":
            context.load_verify_locations(file)
        else:
            context.keylog_filename = file
    except OSError as error:  # includes ssl.SSLError
        return error.strerror or str(error)
    return None
