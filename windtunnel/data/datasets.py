"""Find data sets on the search path, or download them, and verify their content before use.

`Source` and `locate_among` are for all kinds of data sets. This module has the images; the recordings are in
`windtunnel.data.recordings`.
"""

import hashlib
import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from windtunnel.data.download import DownloadError, download
from windtunnel.data.idx import read_idx, stored
from windtunnel.errors import WindtunnelError
from windtunnel.settings import ROOT

_log = logging.getLogger(__name__)

CLASSES = 10
TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
SPEECH = "speech"  # the folder of all recordings; see `windtunnel.data.recordings`


class Content(ABC):
    """The base class of data sets. `files` has a SHA-256 of the content of each file."""

    name: str
    directory: Path
    files: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the whole content, independent of directory and compression."""
        return hashlib.sha256(json.dumps(dict(self.files), sort_keys=True).encode()).hexdigest()

    def lineage(self) -> dict[str, Any]:
        """Return the entry for conditions and manifests: name, fingerprint, and the SHA-256 of each file."""
        return {"name": self.name, "fingerprint": self.fingerprint, "files": dict(self.files)}

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """Return the number of samples in each part, by the name of the part."""


class UnknownDataSetError(WindtunnelError):
    """There is no data set of this name. `known` are the names that can be chosen, without `auto`."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.known = tuple(known)
        super().__init__(f"data set {name!r} is unknown: choose {', '.join(self.known)} or auto")


Found = TypeVar("Found", bound=Content, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Source(ABC, Generic[Found]):
    """A data set that can be found or obtained. `title` is its name for users.

    `folders` are the names that its directory may have on the search path; new files are written into the first. `layouts` are
    directories in which other programs keep it: it is found there, but never written there.
    """

    title: str
    folders: Sequence[str]
    layouts: Sequence[str] = ()
    verb: ClassVar[str] = "download"  # what `get` does, for messages

    @property
    @abstractmethod
    def remedy(self) -> str:
        """The next step for the user if the data set can neither be found nor obtained."""

    @abstractmethod
    def is_in(self, directory: Path) -> bool:
        """Whether all its files exist in `directory`, whatever their content."""

    @abstractmethod
    def is_alone_in(self, directory: Path) -> bool:
        """Whether `directory`, of any name, has its files, and not files of the same names of another data set."""

    @abstractmethod
    def get(self, directory: Path) -> None:
        """Obtain the files that are missing in `directory`.

        Raises:
            DownloadError: a file cannot be obtained or written.
        """

    @abstractmethod
    def read(self, name: str, directory: Path) -> Found:
        """Read the data set in `directory` and verify every file.

        Raises:
            WindtunnelError: a file cannot be read or has wrong content.
        """


@dataclass(frozen=True, kw_only=True)
class Known(Source["DataSet"]):
    """A public data set of images.

    `mean` and `std` are the mean and standard deviation of the training pixels in 0..1; `files` maps each IDX file to the SHA-256 of
    its uncompressed bytes; `mirrors` are the base URLs of its files; `advice` describes another way to get it; `classes` are the names
    of the labels, if these are more than digits.
    """

    mean: float
    std: float
    files: Mapping[str, str]
    mirrors: Sequence[str]
    advice: str = ""
    classes: Sequence[str] = ()

    @property
    def remedy(self) -> str:
        """Install it manually."""
        return f"put its four files into {self.folders[0]}/ in a folder that is listed in WINDTUNNEL_DATA{self.advice}"

    def is_in(self, directory: Path) -> bool:
        """Whether all four files exist, plain or gzipped."""
        return all(stored(directory / file) for file in self.files)

    def is_alone_in(self, directory: Path) -> bool:
        """Whether all four files exist and the smallest one is verified: all such data sets use the same file names."""
        try:
            return self.is_in(directory) and read_idx(directory / TEST_LABELS)[1] == self.files[TEST_LABELS]
        except WindtunnelError:
            return False

    def get(self, directory: Path) -> None:
        """Download the files that are missing in `directory`."""
        download(self.files, self.mirrors, directory)

    def read(self, name: str, directory: Path) -> "DataSet":
        """Return the data set, after reading all files once to verify them."""
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
        classes=("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
}


def class_names(name: str) -> list[str] | None:
    """Return the names of a data set's labels; None if they have none, or the data set is unknown."""
    return list(KNOWN[name].classes) or None if name in KNOWN else None


@dataclass(frozen=True)
class DataSet(Content):
    """Images and labels in one directory: four IDX files, plain or gzipped.

    `mean` and `std` are the mean and standard deviation of the training pixels in 0..1; `files` maps each IDX file to the SHA-256 of
    its uncompressed bytes.
    """

    name: str
    directory: Path
    mean: float
    std: float
    files: Mapping[str, str]

    def train(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the training images, uint8 (N,28,28), and their labels, uint8 (N).

        Raises:
            WindtunnelError: a file is missing, cannot be read, or has another SHA-256 than in `files`.
        """
        return self._pair(TRAIN_IMAGES, TRAIN_LABELS)

    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the test images and their labels, like `train`."""
        return self._pair(TEST_IMAGES, TEST_LABELS)

    def counts(self) -> dict[str, int]:
        """Return the number of training and test images."""
        return {"train": len(self.train()[1]), "test": len(self.test()[1])}

    def _pair(self, images_name: str, labels_name: str) -> tuple[np.ndarray, np.ndarray]:
        images, labels = self._read(images_name, dimensions=3), self._read(labels_name, dimensions=1)
        if len(images) != len(labels):
            raise WindtunnelError(
                f"{self.directory} has files of two data sets: found {len(images)} images in {images_name} and {len(labels)} labels in "
                f"{labels_name}, expected equal numbers. Replace one of the files"
            )
        if labels.max() >= CLASSES:
            raise WindtunnelError(f"{self.directory / labels_name} has a wrong label: found {labels.max()}, expected 0 to {CLASSES - 1}")
        return images, labels

    def _read(self, name: str, dimensions: int) -> np.ndarray:
        array, digest = read_idx(self.directory / name)
        if digest != self.files[name]:
            raise WindtunnelError(
                f"{stored(self.directory / name)}: found {_called(digest)}, expected {_called(self.files[name])}. Replace or remove it"
            )
        if array.ndim != dimensions:
            raise WindtunnelError(f"{stored(self.directory / name)}: found shape {array.shape}, expected {dimensions} dimensions")
        return array


def _called(digest: str) -> str:
    """Return the name of the known file with this digest, or else the digest."""
    for known in KNOWN.values():
        for name, right in known.files.items():
            if digest == right:
                return f"{known.title}'s {name}"
    return f"data with SHA-256 {digest}"


def search_path() -> list[Path]:
    """Return the search path: `WINDTUNNEL_DATA`, the project's `data`, `shared/data` beside the project, `/usr/share/datasets`."""
    return [*_writable_path(), ROOT.parent / "shared" / "data", Path("/usr/share/datasets")]


def _writable_path() -> list[Path]:
    try:
        named = [Path(entry).expanduser().absolute() for entry in os.environ.get("WINDTUNNEL_DATA", "").split(os.pathsep) if entry]
    except RuntimeError as error:  # ~USER, but there is no such user
        raise WindtunnelError(f"WINDTUNNEL_DATA: expected folders separated by {os.pathsep!r}: {error}") from error
    return [*named, ROOT / "data"]


def locate(name: str, say: Callable[[str], None] = _log.info) -> DataSet:
    """Find the data set `name` on the search path, or download it, and verify all its files.

    Args:
        name: `mnist`, `fashion_mnist`, or `auto`: MNIST if it is available, else Fashion-MNIST.
        say: called with messages about which data set is used and why.

    Raises:
        WindtunnelError: `name` is unknown, a file has wrong content, or the data set is not found and cannot be downloaded.
    """
    return locate_among(KNOWN, name, say)


def locate_among(sources: Mapping[str, Source[Found]], name: str, say: Callable[[str], None]) -> Found:
    """Find or obtain the data set `name` of `sources`. `auto` is the first of them, or the second, if there is one, if the first is not
    available.

    See `locate`.
    """
    if name == "auto":
        first, *others = sources
        try:
            return locate_among(sources, first, say)
        except DownloadError as error:
            if not others:
                raise
            say(f"auto uses {sources[others[0]].title}: {error}")
            return locate_among(sources, others[0], say)
    if name not in sources:
        raise UnknownDataSetError(name, sources)
    source = sources[name]
    directory = find(source) or _get(source, say)
    found = source.read(name, directory)
    say(f"{source.title} in {directory}")
    return found


def find(source: Source[Any]) -> Path | None:
    """Return the first directory on the search path that has all files of the data set, whatever their content.

    An entry of the path may also be the data set's own directory, or the parent of torchvision's `raw`.
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
    """Obtain the data set, in the first writable folder of `WINDTUNNEL_DATA` and the project's `data`.

    A folder in `WINDTUNNEL_DATA` that contains only other files is not written into.
    """
    folder = source.folders[0]
    looked = ", ".join(str(place / folder) for place in search_path())
    for other in (foreign := [place for place in _writable_path() if not _is_for_data_sets(place)]):
        say(f"skipping {other}: it contains other files, and none of the folders {', '.join(sorted(_folders()))}")
    place = next((place for place in _writable_path() if place not in foreign and _can_write(place)), None)
    if place is None:
        raise DownloadError(
            f"{source.title} is not complete in {looked}, and there is no writable folder to {source.verb} it into: {source.remedy}"
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
    """Whether a folder is the project's own, is empty or missing, or already has data sets."""
    try:
        held = {name for name in os.listdir(place) if not name.startswith(".") and name != "lost+found"}
    except OSError:  # it does not exist yet, or cannot be used, which `_can_write` will find
        return True
    return place == ROOT / "data" or not held or bool(held & _folders())


def _can_write(place: Path) -> bool:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(place, os.W_OK)
