import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.windtunnel.data.loopback_mirror import Mirror
from windtunnel.data import datasets
from windtunnel.data.datasets import KNOWN, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, DataSet, find, locate, search_path
from windtunnel.data.download import DownloadError
from windtunnel.errors import WindtunnelError

Files = dict[str, bytes]


def digests(files: Files) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def put(files: Files, directory: Path, compressed: bool = True) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / f"{name}.gz").write_bytes(gzip.compress(content)) if compressed else (directory / name).write_bytes(content)


# The real thing


def real() -> list[str]:
    found = [name for name, known in KNOWN.items() if find(known)]
    assert found, "these tests need MNIST or Fashion-MNIST: apt-get install dataset-fashion-mnist"
    return found


def test_a_real_data_set_has_the_recorded_size_mean_and_deviation() -> None:
    for name in real():
        dataset = locate(name)
        images, labels = dataset.train()
        assert images.shape == (60_000, 28, 28)
        assert images.dtype == labels.dtype == np.uint8
        assert np.bincount(labels).size == 10
        assert dataset.mean == pytest.approx(images.mean() / 255, abs=5e-5)
        assert dataset.std == pytest.approx(images.std() / 255, abs=5e-5)
        images, labels = dataset.test()
        assert images.shape == (10_000, 28, 28)
        assert labels.shape == (10_000,)


def test_a_real_data_set_in_the_folder_of_another_is_called_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = real()[-1]
    other = next(name for name in KNOWN if name != here)
    (tmp_path / other).symlink_to(locate(here).directory)
    monkeypatch.setenv("WINDTUNNEL_DATA", str(tmp_path))
    with pytest.raises(
        WindtunnelError, match=f"found {KNOWN[here].title}'s {TRAIN_IMAGES}, expected {KNOWN[other].title}'s {TRAIN_IMAGES}"
    ):
        locate(other)


# One data set in one directory


def dataset_of(files: Files, directory: Path) -> DataSet:
    put(files, directory)
    return DataSet("tiny", directory, 0.5, 0.3, digests(files))


def test_the_fingerprint_is_that_of_the_content(tiny_set: Callable[[int], Files], tmp_path: Path) -> None:
    files = tiny_set(1)
    dataset = dataset_of(files, tmp_path / "a")
    turned_round = dict(reversed(digests(files).items()))
    assert dataset.fingerprint == DataSet("other", tmp_path, 0.1, 0.2, turned_round).fingerprint
    assert dataset.fingerprint != dataset_of(tiny_set(2), tmp_path / "b").fingerprint
    assert json.loads(json.dumps(dataset.lineage())) == {"name": "tiny", "fingerprint": dataset.fingerprint, "files": digests(files)}


def test_images_and_labels_come_together(tiny_set: Callable[[int], Files], tmp_path: Path) -> None:
    files = tiny_set(1)
    dataset = dataset_of(files, tmp_path)
    for (images, labels), images_name, labels_name in [
        (dataset.train(), "train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        (dataset.test(), "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
    ]:
        assert images.tobytes() == files[images_name][16:]
        assert labels.tobytes() == files[labels_name][8:]
        assert images.shape == (len(labels), 28, 28)
    assert dataset.counts() == {"train": 300, "test": 20}


def test_a_changed_file_is_named_with_what_it_holds(tiny_set: Callable[[int], Files], tmp_path: Path) -> None:
    dataset = dataset_of(tiny_set(1), tmp_path)
    changed = tiny_set(2)
    put({TRAIN_LABELS: changed[TRAIN_LABELS]}, tmp_path)
    with pytest.raises(WindtunnelError) as error:
        dataset.train()
    assert f"{tmp_path / TRAIN_LABELS}.gz: found data with SHA-256 {digests(changed)[TRAIN_LABELS]}" in str(error.value)
    dataset.test()


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (TRAIN_LABELS, np.zeros(299), "300 images in train-images-idx3-ubyte and 299 labels in train-labels-idx1-ubyte"),
        (TRAIN_LABELS, np.full(300, 10), "train-labels-idx1-ubyte has a wrong label: found 10, expected 0 to 9"),
        (TRAIN_LABELS, np.zeros((300, 28, 28)), r"train-labels-idx1-ubyte.gz: found shape \(300, 28, 28\), expected 1 dimensions"),
        (TRAIN_IMAGES, np.zeros(300), r"train-images-idx3-ubyte.gz: found shape \(300,\), expected 3 dimensions"),
    ],
)
def test_what_cannot_be_trained_with_is_refused(
    name: str, array: np.ndarray, message: str, tiny_set: Callable[[int], Files], idx_bytes: Callable[[np.ndarray], bytes], tmp_path: Path
) -> None:
    dataset = dataset_of({**tiny_set(1), name: idx_bytes(array)}, tmp_path)
    with pytest.raises(WindtunnelError, match=message):
        dataset.train()


# The search path: here MNIST and Fashion-MNIST are tiny, lie in folders of other names, and their mirror is on loopback


@pytest.fixture
def tiny(project: Path, mirror: Mirror, tiny_set: Callable[[int], Files], monkeypatch: pytest.MonkeyPatch) -> dict[str, Files]:
    sets = {"mnist": tiny_set(1), "fashion_mnist": tiny_set(2)}
    for name, files in sets.items():
        folders = tuple(f"tiny-{folder}" for folder in KNOWN[name].folders)
        monkeypatch.setitem(
            KNOWN, name, replace(KNOWN[name], files=digests(files), folders=folders, layouts=(), mirrors=(f"{mirror.url}{name}/",))
        )
    return sets


def publish(sets: dict[str, Files], mirror: Mirror) -> None:
    mirror.publish({f"{name}/{file}": content for name, files in sets.items() for file, content in files.items()})


def test_the_search_path(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rest = [project / "data", project.parent / "shared" / "data", Path("/usr/share/datasets")]
    assert search_path() == rest
    monkeypatch.setenv("WINDTUNNEL_DATA", "/a::~/b")
    assert search_path() == [Path("/a"), Path.home() / "b", *rest]


def test_the_first_complete_copy_is_used(tiny: dict[str, Files], project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [tmp_path / "a", tmp_path / "b", project / "data", tmp_path / "shared" / "data"]
    monkeypatch.setenv("WINDTUNNEL_DATA", f"{places[0]}:{places[1]}")
    for compressed, place in enumerate(reversed(places)):
        put(tiny["mnist"], place / "tiny-mnist", compressed % 2 == 0)
        dataset = locate("mnist")
        assert dataset.directory == place / "tiny-mnist"
        assert dataset.files == digests(tiny["mnist"])
        assert (dataset.name, dataset.mean, dataset.std) == ("mnist", 0.1307, 0.3081)
    next(places[0].rglob(f"{TEST_LABELS}*")).unlink()
    assert locate("mnist").directory == places[1] / "tiny-mnist"


@pytest.mark.parametrize("folder", ["tiny-fashion_mnist", "tiny-fashion-mnist"])
def test_debians_name_of_the_folder_is_known_too(folder: str, tiny: dict[str, Files], project: Path) -> None:
    put(tiny["fashion_mnist"], project / "data" / folder)
    assert locate("fashion_mnist").directory == project / "data" / folder


@pytest.mark.parametrize("below", ["", "MNIST", "MNIST/raw"], ids=["the root", "the set", "the folder of the files"])
def test_what_torchvision_has_downloaded_is_found(
    below: str, tiny: dict[str, Files], project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tiny["mnist"], tmp_path / "torch" / "MNIST" / "raw")
    put(tiny["mnist"], tmp_path / "torch" / "MNIST" / "raw", compressed=False)
    monkeypatch.setitem(KNOWN, "mnist", replace(KNOWN["mnist"], layouts=("MNIST/raw",)))
    monkeypatch.setenv("WINDTUNNEL_DATA", str(tmp_path / "torch" / below))
    assert locate("auto").directory == tmp_path / "torch" / "MNIST" / "raw"


def test_the_layouts_are_torchvisions() -> None:
    assert KNOWN["mnist"].layouts == ("MNIST/raw",)
    assert KNOWN["fashion_mnist"].layouts == ("FashionMNIST/raw",)


@pytest.mark.parametrize("compressed", [True, False], ids=["gzipped", "plain"])
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_files_by_kaggles_names_are_found_in_the_folder_itself(
    name: str, compressed: bool, tiny: dict[str, Files], project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kaggle = {file.replace("-idx", ".idx"): content for file, content in tiny[name].items()}
    put(kaggle, tmp_path / "archive", compressed)
    monkeypatch.setenv("WINDTUNNEL_DATA", str(tmp_path / "archive"))
    dataset = locate(name)
    assert dataset.directory == tmp_path / "archive"
    assert dataset.counts() == {"train": 300, "test": 20}


def test_the_files_of_another_set_in_the_folder_itself_are_not_taken_for_it(
    tiny: dict[str, Files], mirror: Mirror, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tiny["fashion_mnist"], tmp_path / "archive")
    monkeypatch.setenv("WINDTUNNEL_DATA", str(tmp_path / "archive"))
    assert locate("auto").name == "fashion_mnist"
    (tmp_path / "archive" / f"{TEST_LABELS}.gz").write_bytes(b"no gzip")
    with pytest.raises(DownloadError):
        locate("fashion_mnist")


def test_a_folder_that_holds_other_things_is_left_as_it_is(
    tiny: dict[str, Files], mirror: Mirror, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tiny, mirror)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    monkeypatch.setenv("WINDTUNNEL_DATA", str(tmp_path / "photos"))
    said: list[str] = []
    assert locate("mnist", said.append).directory == project / "data" / "tiny-mnist"
    assert said[0].startswith(f"skipping {tmp_path / 'photos'}: it contains other files, and none of the folders ")
    assert [file.name for file in (tmp_path / "photos").iterdir()] == ["a.jpg"]


@pytest.mark.parametrize("held", ["tiny-fashion_mnist", "speech", ".hidden", "lost+found"])
def test_a_folder_for_data_sets_is_downloaded_into(
    held: str, tiny: dict[str, Files], mirror: Mirror, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tiny, mirror)
    (tmp_path / "sets" / held).mkdir(parents=True)
    monkeypatch.setenv("WINDTUNNEL_DATA", str(tmp_path / "sets"))
    assert locate("mnist").directory == tmp_path / "sets" / "tiny-mnist"


def test_every_file_is_verified(tiny: dict[str, Files], project: Path) -> None:
    directory = project / "data" / "tiny-mnist"
    for name in tiny["mnist"]:
        put(tiny["mnist"] | {name: tiny["fashion_mnist"][name]}, directory)
        with pytest.raises(WindtunnelError, match=f"{name}.gz: found Fashion-MNIST's {name}, expected MNIST's {name}"):
            locate("mnist")


def test_what_is_nowhere_is_downloaded_once(tiny: dict[str, Files], mirror: Mirror, project: Path) -> None:
    publish(tiny, mirror)
    said: list[str] = []
    dataset = locate("mnist", said.append)
    assert dataset.directory == project / "data" / "tiny-mnist"
    assert f"downloading it into {dataset.directory}" in said[0]
    assert len(mirror.requests) == 4
    images, _ = dataset.train()
    assert images.tobytes() == tiny["mnist"][TRAIN_IMAGES][16:]
    assert locate("mnist") == dataset
    assert len(mirror.requests) == 4


def test_what_is_incomplete_is_completed(tiny: dict[str, Files], mirror: Mirror, project: Path) -> None:
    publish(tiny, mirror)
    put(tiny["mnist"], project / "data" / "tiny-mnist")
    (project / "data" / "tiny-mnist" / f"{TEST_LABELS}.gz").unlink()
    locate("mnist")
    assert [request.path for request in mirror.requests] == [f"/mnist/{TEST_LABELS}.gz"]


def test_downloads_go_into_the_first_folder_that_can_be_written(
    tiny: dict[str, Files], mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tiny, mirror)
    (tmp_path / "file").touch()
    monkeypatch.setenv("WINDTUNNEL_DATA", f"{tmp_path}/file/below:{tmp_path}/new")
    assert locate("mnist").directory == tmp_path / "new" / "tiny-mnist"


def test_nowhere_to_write_is_said(tiny: dict[str, Files], mirror: Mirror, project: Path) -> None:
    publish(tiny, mirror)
    project.touch()
    with pytest.raises(DownloadError, match=r"there is no writable folder to download it into: put its four files into tiny-mnist/"):
        locate("mnist")
    assert mirror.requests == []


def test_what_is_nowhere_and_on_no_mirror_is_said_with_what_to_do(tiny: dict[str, Files], mirror: Mirror, project: Path) -> None:
    with pytest.raises(DownloadError) as error:
        locate("fashion_mnist")
    message = str(error.value)
    assert f"Fashion-MNIST cannot be downloaded ({mirror.url}fashion_mnist/{TRAIN_IMAGES}.gz: returned status 404 Not Found)" in message
    assert "WINDTUNNEL_DATA" in message
    assert "apt-get install dataset-fashion-mnist" in message
    assert "\n" not in message
    assert not list(project.rglob("*ubyte*"))


def test_auto_prefers_mnist(tiny: dict[str, Files], mirror: Mirror, project: Path) -> None:
    put(tiny["fashion_mnist"], project / "data" / "tiny-fashion-mnist")
    publish(tiny, mirror)
    said: list[str] = []
    assert locate("auto", said.append).name == "mnist"
    assert said[-1].startswith("MNIST in ")


def test_auto_takes_fashion_mnist_where_mnist_cannot_be_had(tiny: dict[str, Files], mirror: Mirror, project: Path) -> None:
    put(tiny["fashion_mnist"], project / "data" / "tiny-fashion-mnist")
    said: list[str] = []
    assert locate("auto", said.append).name == "fashion_mnist"
    assert said[1].startswith(f"auto uses Fashion-MNIST: MNIST cannot be downloaded ({mirror.url}mnist/")
    assert said[2] == f"Fashion-MNIST in {project / 'data' / 'tiny-fashion-mnist'}"


def test_auto_downloads_fashion_mnist_where_neither_is_found(tiny: dict[str, Files], mirror: Mirror) -> None:
    publish({"fashion_mnist": tiny["fashion_mnist"]}, mirror)
    assert locate("auto").name == "fashion_mnist"


def test_auto_does_not_hide_a_broken_mnist(tiny: dict[str, Files], project: Path) -> None:
    put(tiny["mnist"], project / "data" / "tiny-mnist")
    put(tiny["fashion_mnist"], project / "data" / "tiny-fashion-mnist")
    file = project / "data" / "tiny-mnist" / f"{TRAIN_IMAGES}.gz"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(WindtunnelError, match="is truncated"):
        locate("auto")


def test_auto_is_the_only_data_set_where_there_is_one(tiny: dict[str, Files], mirror: Mirror, project: Path) -> None:
    only = {"mnist": datasets.KNOWN["mnist"]}
    with pytest.raises(WindtunnelError, match="MNIST cannot be downloaded"):
        datasets.locate_among(only, "auto", print)
    put(tiny["mnist"], project / "data" / "tiny-mnist")
    assert datasets.locate_among(only, "auto", print).name == "mnist"


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(WindtunnelError, match="data set 'cifar' is unknown: choose mnist, fashion_mnist or auto"):
        locate("cifar")
