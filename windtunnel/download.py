"""Download files from public mirrors: continued where a connection was cut, known by their content, published by rename."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from windtunnel.errors import WindtunnelError
from windtunnel.idx import MAX_BYTES, read_idx, stored
from windtunnel.locks import held
from windtunnel.network import unusable

# Seconds without a byte before the next mirror is tried.
TIMEOUT = httpx.Timeout(30, connect=5)
# Seconds for another process that downloads into the same directory.
TURN_SECONDS = 3600.0

Flaw = Callable[[Path], str | None]
"""Says what is wrong with a file's content, as in "gave …", or `None` if it is right."""


class DownloadError(WindtunnelError):
    """No mirror gave the file, or there is nowhere to write it."""


@dataclass(frozen=True)
class Wanted:
    """A file to download: what it is called in its directory and below each mirror, how large it can be, and how a wrong one is known."""

    name: str
    max_bytes: int
    flaw: Flaw


def download(files: Mapping[str, str], mirrors: Sequence[str], directory: Path) -> None:
    """Put those of the IDX files `files` that `directory` lacks into it, as `NAME.gz`: see `fetch`.

    Args:
        files: the SHA-256 of the uncompressed bytes of each file, by its name without `.gz`.
        mirrors: URLs, each ending in a slash, below which `NAME.gz` is looked for, in this order.
        directory: made where it is missing.

    Raises:
        DownloadError: no mirror gave one of the files, or it cannot be written.
    """
    lacking = [(name, digest) for name, digest in files.items() if stored(directory / name) is None]
    fetch([Wanted(f"{name}.gz", MAX_BYTES, partial(_idx_flaw, digest)) for name, digest in lacking], mirrors, directory)


def fetch(files: Iterable[Wanted], mirrors: Sequence[str], directory: Path) -> None:
    """Put those of `files` that `directory` lacks into it, showing progress on stderr.

    A file has its name only when it is complete and right. What came before a connection was cut stays beside it, `.part` before the
    ending of its name, and is continued, now or the next time. Processes that download into the same directory take turns.

    Args:
        files: what is wanted.
        mirrors: URLs, each ending in a slash, below which each file is looked for, in this order.
        directory: made where it is missing.

    Raises:
        DownloadError: no mirror gave one of the files, or it cannot be written, or a variable of the environment prevents it.
    """
    for name, problem in unusable(os.environ).items():
        raise DownloadError(f"{name} in the environment keeps downloads from working: {problem}. Unset or correct it")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with (
            held(directory / ".lock", f"the folder {directory}", TURN_SECONDS),
            # Not compressed once more for the way, which would change the offsets that a download continues from.
            httpx.Client(timeout=TIMEOUT, follow_redirects=True, headers={"Accept-Encoding": "identity"}) as client,
            Progress(*columns, console=Console(stderr=True)) as progress,
        ):
            for wanted in files:
                file = directory / wanted.name
                if not file.exists():
                    part = file.with_suffix(f".part{file.suffix}")
                    show = partial(progress.update, progress.add_task(file.stem, total=None, visible=False))
                    receive = partial(_receive, client, part, wanted.max_bytes, show)
                    _from_any([f"{mirror}{wanted.name}" for mirror in mirrors], part, wanted.flaw, receive)
                    os.replace(part, file)
    except OSError as error:
        raise DownloadError(f"{error.filename or directory} cannot be written: {error.strerror}") from error


def _from_any(urls: Iterable[str], part: Path, flaw: Flaw, receive: Callable[[str], None]) -> None:
    problems = []
    for url in urls:
        try:
            return _from_one(url, part, flaw, receive)
        except (httpx.HTTPError, DownloadError) as error:
            problems.append(f"{url}: {str(error) or type(error).__name__}")
    raise DownloadError("; ".join(problems))


def _from_one(url: str, part: Path, flaw: Flaw, receive: Callable[[str], None]) -> None:
    """Complete `part` from `url`, as often as a try brings something, and from its beginning where what was there before does not fit."""
    inherited = part.exists()
    while True:
        before = _size(part)
        try:
            receive(url)
        except httpx.TransportError:
            if _size(part) > before:
                continue
            raise
        wrong = flaw(part)
        if wrong is None:
            return
        part.unlink()
        if not inherited:
            raise DownloadError(f"gave {wrong}")
        inherited = False


def _receive(client: httpx.Client, part: Path, max_bytes: int, show: Callable[..., None], url: str) -> None:
    """Append to `part` what it lacks; begin again where the server cannot continue. Whether the result is right, its content tells."""
    offset = _size(part)
    with client.stream("GET", url, headers={"Range": f"bytes={offset}-"} if offset else {}) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing lies beyond: `part` is complete, or of another file
        if not response.is_success:
            raise DownloadError(f"answered {response.status_code} {response.reason_phrase}")
        if response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            mode = "ab"
        else:
            mode, offset = "wb", 0
        length = response.headers.get("Content-Length")
        show(total=offset + int(length) if length else None, visible=True)  # not of mirrors that cannot be reached
        with part.open(mode) as stream:
            for chunk in response.iter_raw():
                stream.write(chunk)
                received = offset + response.num_bytes_downloaded
                show(completed=received)
                if received > max_bytes:
                    part.unlink()
                    raise DownloadError(f"gave more than {max_bytes} bytes")
            stream.flush()
            os.fsync(stream.fileno())


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _idx_flaw(digest: str, file: Path) -> str | None:
    """What `file` holds, where that are not IDX data of this SHA-256."""
    try:
        found = read_idx(file)[1]
    except WindtunnelError:
        found = "no IDX data"
    return None if found == digest else f"a file with {found} uncompressed, not {digest}"
