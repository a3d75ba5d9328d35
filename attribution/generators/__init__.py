"""Generators as the engine sees them: one small protocol, architectures, loading from model folders.

protocol   LatentSpec, OutputSpec, Generator: images(z), sample(z)
registry   architectures by name, entry points for third parties
dcgan      "dcgan-64"        mlp   "mlp-decoder"
folder     model folders: save, load, digest check
"""

from . import dcgan, mlp
from .folder import load_model_folder, make_generator, read_manifest, save_model_folder
from .protocol import Generator, LatentSpec, OutputSpec
from .registry import known_architectures, register_architecture

__all__ = [
    "Generator", "LatentSpec", "OutputSpec", "dcgan", "known_architectures", "load_model_folder", "make_generator",
    "mlp", "read_manifest", "register_architecture", "save_model_folder",
]  # fmt: skip
