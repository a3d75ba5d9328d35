"""Seed plausibility: could the inputs that somebody presents have been drawn, or were they searched for?

**Screening, not proof.** A forger who knows these tests can pass them (Pasquini et al. 2019; attribution/attacks shows
how). What is sound are hash-committed seeds (ledger/seeds/committed.py) and the rule of counted inputs
(ledger/entries/counted.py); nothing here changes a verdict.

screening   Test, SeedPlausibility: several tests, one level, Holm's correction
latents     |z|^2, angle, Kolmogorov-Smirnov and Anderson-Darling over the numbers of a latent
maps        noise maps: N(0, 1), neighbours, spectrum
styles      StyleGAN: Mahalanobis distance in W, AdaIN gains, both against the generator's own draws
record      what of an opened record can be tested, and the line of the report
"""

from .latents import screen_latent
from .maps import screen_map
from .record import screen_record
from .screening import REPORT_LEVEL, SeedPlausibility, Test

__all__ = ["REPORT_LEVEL", "SeedPlausibility", "Test", "screen_latent", "screen_map", "screen_record"]
