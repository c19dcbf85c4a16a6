"""The data sets that others published, each file held to its published checksum whenever it is read."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xcnn.core.files import path_of, write_whole
from xcnn.data.dataset import Dataset, Samples, scale
from xcnn.data.idx import read
from xcnn.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
TIMEOUT = 30.0
"""Seconds that a mirror may keep silent."""
SLOWEST = 2**14
"""Bytes a second: who serves fewer, beyond silences of twice those seconds in all, is given up."""
log: logging.Logger = logging.getLogger("xcnn.datasets")


@dataclass(frozen=True)
class Source:
    """Four IDX files: the checksums of their contents, checksums and sizes of the .gz files that the mirrors hold.

    `folders` are where they lie within a data_dir, `installed` where a system's packages put them.
    """

    title: str
    folders: tuple[str, ...]
    classes: tuple[str, ...]
    contents: dict[str, str]
    downloads: dict[str, str]
    sizes: dict[str, int]
    mirrors: tuple[str, ...]
    installed: tuple[str, ...] = ()


def _sums(kind: str, *sums: str) -> dict[str, str]:
    return {name: f"{kind}:{digest}" for name, digest in zip((*TRAIN, *TEST), sums, strict=True)}


def _sizes(*sizes: int) -> dict[str, int]:
    return dict(zip((*TRAIN, *TEST), sizes, strict=True))


MNIST01 = Source(
    "mnist01",
    ("",),
    ("0", "1"),
    _sums(
        "sha256",
        "482e60888de7fa7ee006fef795764c059594ad61bc5376d601e04ae92a1b2081",
        "74725c932888a926132f07f349b7fba6a5d33dff14d8f28b77f14351c19a9840",
        "ab2d98bd6cc310374ba0c91593030014043a66031b5e5fea29ca2e844fbf6905",
        "0fd740eac9f45ca4f4e28c0d149bc49ffb64d7447936d786de33fad4e7629dd0",
    ),
    {},
    {},
    (),
)
MNIST = Source(
    "MNIST",
    ("mnist", "MNIST/raw", ""),
    tuple("0123456789"),
    _sums(
        "sha256",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    _sums(
        "sha256",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    _sizes(9_912_422, 28_881, 1_648_877, 4_542),
    ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
)
FASHION_MNIST = Source(
    "Fashion-MNIST",
    ("fashion_mnist", "fashion-mnist", "FashionMNIST/raw", ""),
    ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    _sums(
        "md5",
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
    _sums(
        "sha256",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
    _sizes(26_421_880, 29_515, 4_422_102, 5_148),
    (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    ("/usr/share/datasets/fashion-mnist",),
)


def mnist01() -> Dataset:
    """The digits 0 and 1 of MNIST, 12,665 to train on and 2,115 to test on; they come with xcnn.

    MNIST is by Yann LeCun and Corinna Cortes, CC BY-SA 3.0: see LICENSE beside the files.

    Raises
    ------
    DataError
        X206: the installed files were altered.

    Examples
    --------
    >>> (x, y), (xt, yt) = xcnn.datasets.mnist01()
    >>> x.shape, xt.shape
    ((12665, 1, 28, 28), (2115, 1, 28, 28))
    """
    folder = files("xcnn.data") / "mnist01"
    with ExitStack() as unpacked:  # where xcnn lies in a zip
        return _read(
            MNIST01, {name: unpacked.enter_context(as_file(folder / f"{name}.gz")) for name in (*TRAIN, *TEST)}
        )


def mnist(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Handwritten digits, (1, 28, 28): 60,000 to train on and 10,000 to test on (LeCun and Cortes, CC BY-SA 3.0).

    Parameters
    ----------
    data_dir
        the folder of the four files train-images-idx3-ubyte, ..., plain or .gz, or a folder with a sub-folder mnist
        of them. Without it, the environment variable XCNN_DATA_DIR names it; without that too, they are downloaded
        once (11 MB) into the user's cache, from one of two mirrors, and held to their SHA-256.

    Raises
    ------
    DataError
        X205: files are missing, or no mirror could serve them. X206: a file is not the published one.

    Examples
    --------
    >>> (x, y), (xt, yt) = xcnn.datasets.mnist()  # doctest: +SKIP
    """
    return _load(MNIST, data_dir)


def fashion_mnist(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Pictures of clothing, (1, 28, 28): 60,000 to train on and 10,000 to test on (Zalando Research, MIT).

    Parameters
    ----------
    data_dir
        the folder of the four files train-images-idx3-ubyte, ..., plain or .gz, or a folder with a sub-folder
        fashion_mnist or fashion-mnist of them. Without it, the environment variable XCNN_DATA_DIR names it; without
        that too, the files of Debian's package dataset-fashion-mnist are taken if it is installed, else they are
        downloaded once (31 MB) into the user's cache, and held to their SHA-256. Files from folders are held to the MD5
        of their contents, for which no SHA-256 was published.

    Raises
    ------
    DataError
        X205: files are missing, or no mirror could serve them. X206: a file is not the published one.

    Examples
    --------
    >>> (x, y), (xt, yt) = xcnn.datasets.fashion_mnist()  # doctest: +SKIP
    """
    return _load(FASHION_MNIST, data_dir)


def _load(source: Source, data_dir: str | os.PathLike[str] | None) -> Dataset:
    data_dir = data_dir or os.environ.get("XCNN_DATA_DIR")
    if data_dir:
        paths = _find(source, path_of(data_dir))
    else:
        paths = _installed(source) or {name: _download(source, name) for name in (*TRAIN, *TEST)}
    return _read(source, paths)


def _read(source: Source, paths: dict[str, Path]) -> Dataset:
    parts = {name: _verified(source, name, path) for name, path in paths.items()}
    train, test = (
        Samples(scale(parts[images][:, None]), parts[labels].astype(np.int64)) for images, labels in (TRAIN, TEST)
    )
    return Dataset(train, test, source.classes)


def _installed(source: Source) -> dict[str, Path]:
    """The four files of a system's package, or none where one is missing."""
    for folder in map(Path, source.installed):
        found = {name: path for name in (*TRAIN, *TEST) if (path := _find_one(folder, name))}
        if len(found) == len((*TRAIN, *TEST)):
            return found
    return {}


def _find(source: Source, data_dir: Path) -> dict[str, Path]:
    """Where the four files are, in the sub-folder that holds the most of them."""
    best: dict[str, Path] = {}
    for folder in source.folders:
        found = {name: path for name in (*TRAIN, *TEST) if (path := _find_one(data_dir / folder, name))}
        best = found if len(found) > len(best) else best
    missing = [name for name in (*TRAIN, *TEST) if name not in best]
    if missing:
        raise DataError(
            "X205",
            f"{source.title} is not {'complete ' if best else ''}in {data_dir}.",
            f"missing {', '.join(missing)} (plain or .gz)",
            hint="data_dir, or XCNN_DATA_DIR, is the folder of these files; leave both out to download them.",
        )
    return best


def _find_one(folder: Path, name: str) -> Path | None:
    dotted = name.replace("-idx", ".idx")
    candidates = (folder / (stem + suffix) for stem in (name, dotted) for suffix in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def _verified(source: Source, name: str, path: Path) -> NDArray[np.uint8]:
    header, array = read(path)
    kind, _, published = source.contents[name].partition(":")
    digest = hashlib.new(kind, header, usedforsecurity=False)
    digest.update(array.data)
    if digest.hexdigest() != published:
        raise DataError(
            "X206",
            f"{path} is not {source.title}'s {name}: its checksum differs from the published one.",
            f"got {digest.hexdigest()}, published {published} ({kind} of the uncompressed file)",
            hint="fetch it again; xcnn.datasets.load_idx reads any IDX file.",
        )
    return array


def _download(source: Source, name: str) -> Path:
    """A file of the user's cache, which is written there once it has its checksum."""
    import pooch

    path, failures = Path(pooch.os_cache("xcnn"), source.folders[0], f"{name}.gz"), []
    if path.is_file() and _has_sum(path.read_bytes(), source.downloads[name]):
        return path
    for mirror in source.mirrors:
        log.info("downloading %s%s.gz into %s", mirror, name, path.parent)
        try:
            content = fetch(f"{mirror}{name}.gz", source.sizes[name])
            if not _has_sum(content, source.downloads[name]):
                raise OSError("what it serves has another checksum than the published file")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
            return path
        except (OSError, ValueError) as error:  # the errors of requests are OSErrors
            failures.append(f"{mirror}: {error}")
    raise DataError(
        "X205",
        f"{source.title} could not be downloaded.",
        *failures,
        hint=f"fetch {name}.gz and the other three by other means, and pass data_dir or set XCNN_DATA_DIR.",
    )


def _has_sum(content: bytes, known: str) -> bool:
    kind, _, published = known.partition(":")
    return hashlib.new(kind, content, usedforsecurity=False).hexdigest() == published


def fetch(url: str, size: int) -> bytes:
    """What a mirror serves, of so many bytes at most, in no more time than a slow line takes for them.

    Raises
    ------
    OSError, ValueError
    """
    import pooch

    body, answers, errors = _Body(size), [], []
    hooks = {"response": lambda answer, **_: answers.append(answer)}
    download = pooch.HTTPDownloader(timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}, hooks=hooks)

    def work() -> None:
        try:
            download(url, body, None)
        except BaseException as error:
            errors.append(error)
        finally:
            for answer in answers:
                answer.close()

    beside = threading.Thread(target=work, daemon=True)  # a mirror that drips ends no read: it is left alone
    beside.start()
    try:
        beside.join(2 * TIMEOUT + size / SLOWEST)
        if beside.is_alive():
            raise TimeoutError(f"after {len(body.content):,} bytes it was too slow")
    finally:
        body.wanted = False
    if errors:
        raise errors[0]
    return bytes(body.content)


class _Body:
    """A file in memory, for pooch to write to."""

    def __init__(self, size: int) -> None:
        self.content, self.size, self.wanted = bytearray(), size, True

    def write(self, chunk: bytes) -> None:
        if not self.wanted or len(self.content) + len(chunk) > self.size:
            raise OSError(f"it serves more than the {self.size:,} bytes of the published file")
        self.content += chunk

    def flush(self) -> None: ...
