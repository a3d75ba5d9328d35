"""Training the papers' small generators: deterministic by seed, on the CPU, with the papers' constants.

autoencoders   000's pairs of MNIST auto-encoders (E1 to E3), decoder and encoder
gans           004's DCGAN and Brownlee's GAN on MNIST (Appendix A)

pair           the same two in minutes on 10,000 digits (steady.py), their health measured (health.py)
sibling        the face generator's architecture trained from scratch on its faces

    python -m benchmarks.attribution.training pair
    python -m benchmarks.attribution.training sibling
    python -m benchmarks.attribution.training autoencoders --seed 1 --out build/autoencoders
    python -m benchmarks.attribution.training gans --seed 1 --out build/gans --steps 2000

The first two train on 5,000 real digits (benchmarks.data) where the papers had 30,000 and 60,000; steps are kept, so
epochs are more.
Equal seeds give equal weights on one machine with one number of threads; across machines kernels differ.
"""
