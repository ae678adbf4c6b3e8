"""The environment's way to the network, as the real HTTP client of every task takes it."""

import os
import subprocess
import sys

import pytest

from windtunnel.data.download import DownloadError, download
from windtunnel.platform.network import unusable, without_proxy

CLIENT = [sys.executable, "-c", "import httpx; httpx.Client()"]
GOOD = {
    "http_proxy": "http://127.0.0.1:3128",
    "HTTPS_PROXY": "https://user:word@proxy.example:3128",
    "all_proxy": "proxy.example:3128",
    "NO_PROXY": "localhost, .example.org,*.example.com,10.0.0.0/8,127.0.0.1:8080,::1,http://example.org,*",
    "no_proxy": "",
}
BAD = [
    ("ALL_PROXY", "socks5://127.0.0.1:1080"),
    ("all_proxy", "socks5h://127.0.0.1:1080"),
    ("ALL_PROXY", "socks4://127.0.0.1:9"),
    ("https_proxy", "ftp://127.0.0.1:21"),
    ("HTTP_PROXY", "http://[::1"),
    ("NO_PROXY", "localhost,fe80::/10"),
    ("no_proxy", "[::1],localhost"),
    ("SSL_CERT_FILE", "/dev/null/ca.pem"),
    ("SSLKEYLOGFILE", "/dev/null/keys"),
]


def dies(name, value):
    plain = {key: found for key, found in os.environ.items() if key.lower() not in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")}
    return subprocess.run(CLIENT, env=plain | {name: value}, capture_output=True).returncode != 0


@pytest.mark.parametrize("name", GOOD)
def test_what_the_client_takes_is_usable(name):
    assert unusable({name: GOOD[name]}) == {}
    assert not dies(name, GOOD[name])


@pytest.mark.parametrize(("name", "value"), BAD)
def test_what_the_client_dies_of_is_not(name, value):
    assert list(unusable({name: value, "PATH": "/bin"})) == [name]
    assert dies(name, value)


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_download_names_the_variable_and_its_value(name, value, tmp_path, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(DownloadError, match=f"^{name} in the environment .*found ") as caught:
        download({"x": "0"}, ["http://127.0.0.1:9/"], tmp_path)
    assert "\n" not in str(caught.value)
    assert value.partition(",")[0] in str(caught.value)


def test_a_proxys_password_is_not_shown():
    assert unusable({"ALL_PROXY": "socks5://user:word@proxy:1080"})["ALL_PROXY"].startswith("found socks5://***@proxy:1080,")


def test_the_host_is_reached_directly_and_what_can_be_read_stays():
    wanted = "localhost,::1,10.0.0.0/8,127.0.0.1,localhost"
    assert without_proxy({"no_proxy": "localhost,[::1],::1,fe80::/10, 10.0.0.0/8"}, "127.0.0.1") == {"NO_PROXY": wanted, "no_proxy": wanted}
    assert without_proxy({"NO_PROXY": "a", "no_proxy": "b"}, "c")["NO_PROXY"] == "b,c,localhost"
    assert without_proxy({}, "c")["no_proxy"] == "c,localhost"
