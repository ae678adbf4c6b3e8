"""What the environment says about the way to the network: what of it our HTTP client cannot use, and how to go without a proxy."""

import ipaddress
import re
import ssl
from collections.abc import Mapping

import httpx

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
NO_PROXY = ("NO_PROXY", "no_proxy")
FILES = ("SSL_CERT_FILE", "SSLKEYLOGFILE")  # opened for each client


def unusable(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables with which httpx can make no client at all, whatever it is for, each with the value found and what is wrong with it."""
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
    """The variables by which programs reach `host` directly, beside whatever else `environment` lets them."""
    value = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    return dict.fromkeys(NO_PROXY, ",".join([*filter(_is_readable, _entries(value)), host, "localhost"]))


def _entries(value: str) -> list[str]:
    return [entry.strip() for entry in value.split(",") if entry.strip()]


def _is_proxy(value: str) -> bool:
    try:
        httpx.HTTPTransport(verify=False, trust_env=False, proxy=value if "://" in value else f"http://{value}")
    except (ImportError, ValueError, httpx.InvalidURL):  # the first is what it raises for SOCKS
        return False
    return True


def _without_secrets(proxy: str) -> str:
    return re.sub(r"//.*@", "//***@", proxy)


def _is_readable(entry: str) -> bool:
    """Whether httpx takes an entry of NO_PROXY: it makes a pattern of a URL of each, which an IPv6 network or a bracket spoils."""
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
    except OSError as error:  # of which ssl.SSLError is one
        return error.strerror or str(error)
    return None
