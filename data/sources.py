"""Where the full sets come from: addresses, checksums, and the folder that they are fetched to."""

import hashlib
import http.client
import os
import tempfile
import urllib.request
from pathlib import Path

from data.errors import DataError
from data.files import open_file

LARGEST = 1 << 30  # bytes of a file that is fetched; the largest has 170 million
DOWNLOADS = Path(__file__).parent / "downloads"
_FASHION_MNIST = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_CIFAR = "https://www.cs.toronto.edu/~kriz/"
SOURCES = {  # name -> (address, SHA-256) of each file, both as published
    "fashion_mnist": (
        (_FASHION_MNIST + "train-images-idx3-ubyte.gz",
         "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        (_FASHION_MNIST + "train-labels-idx1-ubyte.gz",
         "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        (_FASHION_MNIST + "t10k-images-idx3-ubyte.gz",
         "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        (_FASHION_MNIST + "t10k-labels-idx1-ubyte.gz",
         "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    ),
    "cifar10": (
        (_CIFAR + "cifar-10-python.tar.gz", "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"),
    ),
    "cifar100": (
        (_CIFAR + "cifar-100-python.tar.gz", "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"),
    ),
}


def fetch(address: str, sha256: str, folder: str | Path) -> Path:
    """Fetch one file into `folder` and check it; returns its path.

    The file appears under its name only once its checksum is right, and a file that is there is never overwritten.
    Raises DataError: no network, a wrong checksum (of what came, or of what lies there already), no place to write.
    """
    path = Path(folder) / address.rsplit("/", 1)[1]
    if path.is_dir():
        raise DataError(f"{path}: is a folder, wanted the file that is fetched; move it away")
    if path.exists():
        _check(path, path, sha256, "move it away to fetch it again")
        return path
    partial = None
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
                partial = Path(file.name)
                while chunk := answer.read(1 << 20):
                    file.write(chunk)
                    if file.tell() > LARGEST:
                        raise DataError(f"{address}: sends more than {LARGEST:,} bytes, which is none of these files")
        _check(partial, address, sha256, "the download was cut short or changed on its way")
        partial.chmod(0o644)  # a temporary file is its owner's alone
        os.replace(partial, path)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise DataError(
            f"{address}: cannot be fetched to {path} ({reason}); without a network, copy the file there from elsewhere"
        ) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
    return path


def _check(path, name, sha256, advice):
    digest = hashlib.sha256()
    with open_file(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != sha256:
        raise DataError(f"{name}: SHA-256 is {digest.hexdigest()}, wanted {sha256}; {advice}")
