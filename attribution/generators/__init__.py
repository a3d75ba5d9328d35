"""Generators as the engine sees them: one small protocol, architectures, loading from model folders.

protocol   OutputSpec, Generator: images(z), sample(z); noise inputs, constants of sampling
latent     LatentSpec: the priors, drawing from them, their support, density and committed seeds
check      what is wrong with a bad generator     noise: how many free numbers its noise maps hold
registry   architectures by name, entry points for third parties
mlp        "mlp-decoder": 000's auto-encoders
dcgan      "dcgan-64"
mnist      "dcgan-mnist", "brownlee-mnist": 004 Appendix A
resnet     "sngan-resnet", "sagan-resnet", with attention; spectral folds their normalised weights
progan     "progan", with equalised layers
stylegan   "stylegan"        stylegan2   "stylegan2", with modulated convolutions; styled: what both share; fir: filters
folder     model folders: save, load, digest check
layouts/   published checkpoints by their own names     convert   a safetensors file to a model folder
"""

from . import dcgan, mlp, mnist, progan, resnet, stylegan, stylegan2
from .check import check_generator
from .folder import load_model_folder, make_generator, read_manifest, save_model_folder
from .protocol import Generator, LatentSpec, OutputSpec
from .registry import fresh, known_architectures, register_architecture

__all__ = [
    "Generator", "LatentSpec", "OutputSpec", "check_generator", "dcgan", "fresh", "known_architectures",
    "load_model_folder", "make_generator", "mlp", "mnist", "progan", "read_manifest", "register_architecture",
    "resnet", "save_model_folder", "stylegan", "stylegan2",
]  # fmt: skip
