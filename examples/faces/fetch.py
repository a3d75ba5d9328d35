"""A real face generator that others trained, fetched once by package name and kept under .cache/.

DCGAN, 100 latents, 64x64 RGB, trained by its authors on DigiFace1M, MIT licence: package `gan-face-generate` 1.1.1. The
package is never installed nor imported: its wheel is opened as a zip, the checkpoint is read with
`torch.load(weights_only=True)`, and the tensors go into our own DCGAN-64 and on to safetensors.

    python -m examples.faces.fetch          # prints the model folder
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from plausible.attribution.generators import Generator, load_model_folder, save_model_folder
from plausible.attribution.generators.dcgan import DCGAN64
from plausible.schemas.errors import EvidenceError, SetupError

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "faces"
PACKAGE = "gan-face-generate==1.1.1"
WHEEL = "gan_face_generate-1.1.1-py3-none-any.whl"
WHEEL_SHA256 = "24102f4be41d164e44251168ede0458a45e498a888c81493e2aea48529640569"
CHECKPOINT = "gan_face_generate/weights.tar"
CONFIG = {"latent": 100, "width": 64, "channels": 3}
SAMPLING = {"output_range": [-1, 1], "rounding": "mul127.5_add128_trunc"}


def wheel() -> Path:
    """The package's wheel, downloaded if it is not there; `EvidenceError` if its bytes are not the pinned ones."""
    path = CACHE / WHEEL
    if not path.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                       "--ignore-requires-python", "--only-binary=:all:", "--dest", folder, PACKAGE]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
            if done.returncode:
                reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
                raise SetupError(f"{PACKAGE} could not be downloaded ({reason[0]}): put its wheel into {CACHE}")
            _checked(Path(folder) / WHEEL).replace(path)
    return _checked(path)


def _checked(path: Path) -> Path:
    if hashlib.sha256(path.read_bytes()).hexdigest() != WHEEL_SHA256:
        raise EvidenceError(f"{path} is not the pinned wheel (SHA-256 differs): delete it and fetch it again")
    return path


def model_folder() -> Path:
    """The model folder of the face generator, made from the wheel if it is not there."""
    folder = CACHE / "faces"
    if not (folder / "manifest.json").is_file():
        with zipfile.ZipFile(wheel()) as archive:
            checkpoint = torch.load(io.BytesIO(archive.read(CHECKPOINT)), weights_only=True, map_location="cpu")
        module = DCGAN64(**CONFIG)
        module.load_state_dict(checkpoint["netG_state_dict"])
        save_model_folder(folder, "faces", module.eval(), "dcgan-64", CONFIG, SAMPLING)
    return folder


def face_generator() -> Generator:
    """The face generator, its digest recomputed from the tensors."""
    return load_model_folder(model_folder(), name="faces")


if __name__ == "__main__":
    print(model_folder())
