"""Attacks on seeds, to be run: inputs that make a generator emit a chosen picture (004 section III-D).

They are here so that what the layers against them catch is measured and not claimed. None needs a secret; each is
ordinary optimisation, and whoever holds the weights can do it.

adain      free AdaIN parameters of the last layer: gain 0, shift = the picture
noise      noise maps solved for, so that StyleGAN or StyleGAN2 emits the picture
latent     a plain latent searched from the prior, free, with the prior's norm, or with all its marginals
constant   a model whose weights are the picture: it needs no forged input, and no latent changes it
solve      Gauss-Newton by conjugate gradients, over any inputs

    python -m plausible.attribution.attacks noise MODEL_FOLDER target.png --out forged/

What they meet: counted inputs (noise maps and pictures never count), hash-committed seeds, registration before the
picture, and the screening of attribution/seeds. docs/experiments/seeds.md has the table.
"""
