import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tests.windtunnel.data.loopback_mirror import Mirror
from windtunnel.platform.secrets import make_signing_key
from windtunnel.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Those of a platform that has a key to sign versions."""
    made = Settings(home=tmp_path / "home")
    make_signing_key(made)
    return made


@pytest.fixture(scope="session")
def idx_bytes() -> Callable[[np.ndarray], bytes]:
    def encode(array: np.ndarray) -> bytes:
        magic = bytes([0, 0, 8, array.ndim])
        return magic + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()

    return encode


@pytest.fixture(scope="session")
def tiny_set(idx_bytes: Callable[[np.ndarray], bytes]) -> Callable[[int], dict[str, bytes]]:
    """Four IDX files, uncompressed, by name: 300 training and 20 test images drawn from `seed`."""

    def draw(seed: int) -> dict[str, bytes]:
        generator = np.random.default_rng(seed)
        return {
            "train-images-idx3-ubyte": idx_bytes(generator.integers(0, 256, (300, 28, 28))),
            "train-labels-idx1-ubyte": idx_bytes(generator.integers(0, 10, 300)),
            "t10k-images-idx3-ubyte": idx_bytes(generator.integers(0, 256, (20, 28, 28))),
            "t10k-labels-idx1-ubyte": idx_bytes(generator.integers(0, 10, 20)),
        }

    return draw


@pytest.fixture
def start_mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Mirror]]:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    running = []

    def start() -> Mirror:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    mirror.answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, *_: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        mirror = Mirror(f"http://127.0.0.1:{server.server_port}/")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((mirror, server, thread))
        return mirror

    yield start
    for mirror, server, thread in running:
        mirror.resume.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def mirror(start_mirror: Callable[[], Mirror]) -> Mirror:
    return start_mirror()


@pytest.fixture
def dead_mirror() -> Iterator[str]:
    """The URL of a port that refuses connections: bound, so that nothing else takes it, but not listening."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}/"
