"""Download files from public mirrors: resume interrupted downloads, verify the content, rename complete files into place."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from windtunnel.data.idx import MAX_BYTES, read_idx, stored
from windtunnel.errors import WindtunnelError
from windtunnel.locks import held
from windtunnel.platform.network import unusable

# Seconds without data before the next mirror is tried.
TIMEOUT = httpx.Timeout(30, connect=5)
# Seconds to wait for another process that downloads into the same directory.
TURN_SECONDS = 3600.0

Flaw = Callable[[Path], str | None]
"""Returns what is wrong with a file's content, as a noun phrase, or None if it is right."""


class DownloadError(WindtunnelError):
    """The file could not be downloaded or written."""


@dataclass(frozen=True)
class Wanted:
    """A file to download: its name in the directory and on each mirror, its maximum size, and the function that verifies its content."""

    name: str
    max_bytes: int
    flaw: Flaw


def download(files: Mapping[str, str], mirrors: Sequence[str], directory: Path) -> None:
    """Download the IDX files that are missing in `directory`, as `NAME.gz`. See `fetch`.

    Args:
        files: the SHA-256 of the uncompressed bytes of each file, by its name without `.gz`.
        mirrors: base URLs of `NAME.gz`, each ending in a slash, tried in this order.
        directory: created if it is missing.

    Raises:
        DownloadError: no mirror provides one of the files, or it cannot be written.
    """
    lacking = [(name, digest) for name, digest in files.items() if stored(directory / name) is None]
    fetch([Wanted(f"{name}.gz", MAX_BYTES, partial(_idx_flaw, digest)) for name, digest in lacking], mirrors, directory)


def fetch(files: Iterable[Wanted], mirrors: Sequence[str], directory: Path) -> None:
    """Download the files that are missing in `directory`, and show progress on stderr.

    A file gets its name only when it is complete and verified. Until then its data is in a file beside it with `.part` before the
    extension; an interrupted download is resumed from there, now or the next time. Only one process downloads into a directory at a time.

    Args:
        files: the files to download.
        mirrors: base URLs of the files, each ending in a slash, tried in this order.
        directory: created if it is missing.

    Raises:
        DownloadError: no mirror provides one of the files, it cannot be written, or an environment variable prevents the download.
    """
    for name, problem in unusable(os.environ).items():
        raise DownloadError(f"{name} in the environment prevents downloads: {problem}. Unset or correct it")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with (
            held(directory / ".lock", f"the folder {directory}", TURN_SECONDS),
            # No additional compression, which would change the offsets for resuming.
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
    """Complete `part` from `url`. Retry as long as each try receives data; start over if existing data turns out to be wrong."""
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
            raise DownloadError(f"returned {wrong}")
        inherited = False


def _receive(client: httpx.Client, part: Path, max_bytes: int, show: Callable[..., None], url: str) -> None:
    """Append the missing data to `part`; start over if the server cannot resume. The caller verifies the content."""
    offset = _size(part)
    with client.stream("GET", url, headers={"Range": f"bytes={offset}-"} if offset else {}) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # there is no more data: `part` is complete, or is of another file
        if not response.is_success:
            raise DownloadError(f"returned status {response.status_code} {response.reason_phrase}")
        if response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            mode = "ab"
        else:
            mode, offset = "wb", 0
        length = response.headers.get("Content-Length")
        show(total=offset + int(length) if length else None, visible=True)  # hidden until a mirror is reached
        with part.open(mode) as stream:
            for chunk in response.iter_raw():
                stream.write(chunk)
                received = offset + response.num_bytes_downloaded
                show(completed=received)
                if received > max_bytes:
                    part.unlink()
                    raise DownloadError(f"returned more than {max_bytes} bytes")
            stream.flush()
            os.fsync(stream.fileno())


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _idx_flaw(digest: str, file: Path) -> str | None:
    """Return what `file` contains, if that is not IDX data with this SHA-256."""
    try:
        found = read_idx(file)[1]
    except WindtunnelError:
        return "a file that is not IDX data"
    return None if found == digest else f"a file with SHA-256 {found} uncompressed, expected {digest}"
