"""Data sets: found along the search path, else downloaded, and never used before their content is known to be right.

How any data set is found is `Source` and `locate_among`. The images are here, the recordings in `windtunnel.recordings`.
"""

import hashlib
import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from windtunnel.download import DownloadError, download
from windtunnel.errors import WindtunnelError
from windtunnel.idx import read_idx, stored
from windtunnel.settings import ROOT

_log = logging.getLogger(__name__)

CLASSES = 10
TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
SPEECH = "speech"  # the folder of all recordings, see `windtunnel.recordings`


class Content(ABC):
    """What every data set says of itself. `files` holds a SHA-256 of the content of each of its files."""

    name: str
    directory: Path
    files: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """One SHA-256 for the whole content, whatever its directory and compression."""
        return hashlib.sha256(json.dumps(dict(self.files), sort_keys=True).encode()).hexdigest()

    def lineage(self) -> dict[str, Any]:
        """What conditions and manifests say about the data: name, fingerprint, and the SHA-256 of each file."""
        return {"name": self.name, "fingerprint": self.fingerprint, "files": dict(self.files)}

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """How many samples each part has, by its name."""


Found = TypeVar("Found", bound=Content, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Source(ABC, Generic[Found]):
    """A data set that can be had: what it is called, and the names its directory may have on the search path, the first one preferred.

    `layouts` are directories in which others keep it. It is found in them, and never written into them.
    """

    title: str
    folders: Sequence[str]
    layouts: Sequence[str] = ()
    verb: ClassVar[str] = "download"  # what `get` does

    @property
    @abstractmethod
    def remedy(self) -> str:
        """What to do where it can neither be found nor be had."""

    @abstractmethod
    def is_in(self, directory: Path) -> bool:
        """Whether all its files are in `directory`, whatever is in them."""

    @abstractmethod
    def is_alone_in(self, directory: Path) -> bool:
        """Whether `directory`, whatever it is called, holds its files and not those of another data set with the same names."""

    @abstractmethod
    def get(self, directory: Path) -> None:
        """Put the files that `directory` lacks into it.

        Raises:
            DownloadError: they cannot be had, or cannot be written.
        """

    @abstractmethod
    def read(self, name: str, directory: Path) -> Found:
        """The data set in `directory`, every file of it verified.

        Raises:
            WindtunnelError: a file cannot be read or is not what it should be.
        """


@dataclass(frozen=True, kw_only=True)
class Known(Source["DataSet"]):
    """A public data set of images: what its files hold and where they are.

    `mean` and `std` are those of the training pixels in 0..1, `files` the SHA-256 of the uncompressed bytes of each IDX file, `mirrors`
    the URLs below which its files are, `advice` another way to get it.
    """

    mean: float
    std: float
    files: Mapping[str, str]
    mirrors: Sequence[str]
    advice: str = ""

    @property
    def remedy(self) -> str:
        """Put it there by hand."""
        return f"put its four files into {self.folders[0]}/ in a folder that WINDTUNNEL_DATA names{self.advice}"

    def is_in(self, directory: Path) -> bool:
        """Whether all four files are there, plain or gzipped."""
        return all(stored(directory / file) for file in self.files)

    def is_alone_in(self, directory: Path) -> bool:
        """Whether all four files are there, and the smallest is the right one: all such sets name their files alike."""
        try:
            return self.is_in(directory) and read_idx(directory / TEST_LABELS)[1] == self.files[TEST_LABELS]
        except WindtunnelError:
            return False

    def get(self, directory: Path) -> None:
        """Download what `directory` lacks."""
        download(self.files, self.mirrors, directory)

    def read(self, name: str, directory: Path) -> "DataSet":
        """Its images and labels, read once to verify them."""
        dataset = DataSet(name, directory, self.mean, self.std, self.files)
        dataset.train()
        dataset.test()
        return dataset


KNOWN = {
    # LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist
    "mnist": Known(
        title="MNIST",
        mean=0.1307,
        std=0.3081,
        files={
            TRAIN_IMAGES: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            TRAIN_LABELS: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            TEST_IMAGES: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            TEST_LABELS: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        folders=("mnist",),
        layouts=("MNIST/raw",),
        mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    ),
    # Xiao, Rasul and Vollgraf, arXiv 1708.07747
    "fashion_mnist": Known(
        title="Fashion-MNIST",
        mean=0.2860,
        std=0.3530,
        files={
            TRAIN_IMAGES: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            TRAIN_LABELS: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            TEST_IMAGES: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            TEST_LABELS: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        folders=("fashion_mnist", "fashion-mnist"),
        layouts=("FashionMNIST/raw",),
        mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        advice=", or on Debian and Ubuntu: apt-get install dataset-fashion-mnist",
    ),
}


@dataclass(frozen=True)
class DataSet(Content):
    """Images and labels in one directory, four IDX files, plain or gzipped.

    `mean` and `std` are those of the training pixels in 0..1; `files` holds the SHA-256 of the uncompressed bytes of each IDX file.
    """

    name: str
    directory: Path
    mean: float
    std: float
    files: Mapping[str, str]

    def train(self) -> tuple[np.ndarray, np.ndarray]:
        """The training images, uint8 (N,28,28), and their labels, uint8 (N).

        Raises:
            WindtunnelError: a file is missing, cannot be read, or does not hold what `files` says.
        """
        return self._pair(TRAIN_IMAGES, TRAIN_LABELS)

    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """The test images and their labels, as `train` gives the training ones."""
        return self._pair(TEST_IMAGES, TEST_LABELS)

    def counts(self) -> dict[str, int]:
        """How many images there are to train on and to test on."""
        return {"train": len(self.train()[1]), "test": len(self.test()[1])}

    def _pair(self, images_name: str, labels_name: str) -> tuple[np.ndarray, np.ndarray]:
        images, labels = self._read(images_name, dimensions=3), self._read(labels_name, dimensions=1)
        if len(images) != len(labels):
            raise WindtunnelError(
                f"{self.directory}: {len(images)} images in {images_name}, {len(labels)} labels in {labels_name}: one is of another set"
            )
        if labels.max() >= CLASSES:
            raise WindtunnelError(f"{self.directory / labels_name} holds label {labels.max()}: labels are 0 to {CLASSES - 1}")
        return images, labels

    def _read(self, name: str, dimensions: int) -> np.ndarray:
        array, digest = read_idx(self.directory / name)
        if digest != self.files[name]:
            raise WindtunnelError(
                f"{stored(self.directory / name)} holds {_called(digest)}, not {_called(self.files[name])}: replace or remove it"
            )
        if array.ndim != dimensions:
            raise WindtunnelError(f"{stored(self.directory / name)} has shape {array.shape}: {dimensions} dimensions are wanted")
        return array


def _called(digest: str) -> str:
    """The name of the known file with this digest, else the digest."""
    for known in KNOWN.values():
        for name, right in known.files.items():
            if digest == right:
                return f"{known.title}'s {name}"
    return f"data of SHA-256 {digest}"


def search_path() -> list[Path]:
    """Where data sets are looked for: `WINDTUNNEL_DATA`, the project's `data`, `shared/data` beside the project, `/usr/share/datasets`."""
    return [*_writable_path(), ROOT.parent / "shared" / "data", Path("/usr/share/datasets")]


def _writable_path() -> list[Path]:
    try:
        named = [Path(entry).expanduser().absolute() for entry in os.environ.get("WINDTUNNEL_DATA", "").split(os.pathsep) if entry]
    except RuntimeError as error:  # ~ of a user that there is not
        raise WindtunnelError(f"WINDTUNNEL_DATA: expected folders with {os.pathsep!r} between: {error}") from error
    return [*named, ROOT / "data"]


def locate(name: str, say: Callable[[str], None] = _log.info) -> DataSet:
    """The data set `name`: the first complete one on the search path, else downloaded; all its files verified.

    Args:
        name: `mnist`, `fashion_mnist`, or `auto`: MNIST where it can be had, else Fashion-MNIST.
        say: told, in a line each, which data set is used and why.

    Raises:
        WindtunnelError: `name` is unknown, a file is not what it should be, or the data set is nowhere and cannot be downloaded.
    """
    return locate_among(KNOWN, name, say)


def locate_among(sources: Mapping[str, Source[Found]], name: str, say: Callable[[str], None]) -> Found:
    """The data set `name` of `sources`; `auto` is the first of them, or the second where the first cannot be had. See `locate`."""
    if name == "auto":
        first, second, *_ = sources
        try:
            return locate_among(sources, first, say)
        except DownloadError as error:
            say(f"auto takes {sources[second].title}: {error}")
            return locate_among(sources, second, say)
    if name not in sources:
        raise WindtunnelError(f"data set {name!r} is unknown: choose {', '.join(sources)} or auto")
    source = sources[name]
    directory = find(source) or _get(source, say)
    found = source.read(name, directory)
    say(f"{source.title} in {directory}")
    return found


def find(source: Source[Any]) -> Path | None:
    """The first directory on the search path that holds all its files, whatever is in them.

    A place on the path may also be the data set's own directory, or the one above torchvision's `raw`.
    """
    for place in search_path():
        for folder in (*source.folders, *source.layouts):
            if source.is_in(place / folder):
                return place / folder
        for directory in (place, place / "raw"):
            if source.is_alone_in(directory):
                return directory
    return None


def _get(source: Source[Any], say: Callable[[str], None]) -> Path:
    """Get it into the first folder that can be written, of those in `WINDTUNNEL_DATA` and the project's `data`.

    A folder in `WINDTUNNEL_DATA` that holds other things is somebody's, and is left as it is.
    """
    folder = source.folders[0]
    looked = ", ".join(str(place / folder) for place in search_path())
    for other in (foreign := [place for place in _writable_path() if not _is_for_data_sets(place)]):
        say(f"{other} is not written into: it holds other things, and none of {', '.join(sorted(_folders()))}")
    place = next((place for place in _writable_path() if place not in foreign and _can_write(place)), None)
    if place is None:
        raise DownloadError(
            f"{source.title} is not complete in {looked}, and no folder to {source.verb} it into can be written: {source.remedy}"
        )
    say(f"{source.title} is not complete in {looked}: {source.verb}ing it into {place / folder}")
    try:
        source.get(place / folder)
    except DownloadError as error:
        raise DownloadError(f"{source.title} cannot be {source.verb}ed ({error}): {source.remedy}") from error
    return place / folder


def _folders() -> set[str]:
    return {SPEECH, *(folder for known in KNOWN.values() for folder in known.folders)}


def _is_for_data_sets(place: Path) -> bool:
    """Whether a folder is the project's own, is yet to be filled, or has been filled by the project before."""
    try:
        held = {name for name in os.listdir(place) if not name.startswith(".") and name != "lost+found"}
    except OSError:  # it is yet to be made, or cannot be used, as will be found out
        return True
    return place == ROOT / "data" or not held or bool(held & _folders())


def _can_write(place: Path) -> bool:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(place, os.W_OK)
