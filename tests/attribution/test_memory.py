"""Out of memory: the batch is halved and the search goes on, here under a real limit of the address space."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from plausible.attribution.inversion.memory import Batches, refused
from plausible.schemas.errors import SetupError

STARVED = """
import resource, sys
import torch
from plausible.attribution.generators import fresh, make_generator
from plausible.attribution.inversion import invert
from plausible.attribution.inversion.adam import Pool, advance
from plausible.attribution.inversion.unknowns import Unknowns

torch.set_num_threads(1)
config = {"latent": 16, "widths": [32, 16, 16], "bottom": 4}
sampling = {"output_range": [-1, 1], "rounding": "mul127.5_add128_trunc"}
generator = make_generator("g", fresh("sngan-resnet", config, 0), "sngan-resnet", config, sampling)
rng = torch.Generator().manual_seed(0)
unknowns = Unknowns(generator, generator.sample(generator.latent.draw(1, rng))[0])
starts = generator.latent.draw(512, rng)

def pool():
    made = Pool(unknowns.loss, generator.latent, starts)
    advance([made], steps=2, rate=0.1, prior=0.0)
    return made

small = Pool(unknowns.loss, generator.latent, starts[:2])
advance([small], steps=1, rate=0.1, prior=0.0)  # what torch allocates once
used = next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (used + 60 * 2**20, resource.RLIM_INFINITY))
starved = pool()
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
free = pool()
assert starved.batches.halvings >= 1 and free.batches.halvings == 0, starved.batches
assert torch.allclose(starved.best_loss, free.best_loss, rtol=1e-3), "other results"
print("halved", starved.batches.halvings, "to", starved.batches.limit)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space")
def test_a_starved_search_halves_its_batch_and_ends_alike() -> None:
    done = subprocess.run([sys.executable, "-c", STARVED], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("halved")


def test_rows_are_worked_once_and_in_order() -> None:
    seen: list[int] = []

    def work(rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if len(rows) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
        seen.append(len(rows))
        return (rows * 2,)

    batches = Batches()
    rows = torch.arange(10.0)[:, None]
    assert torch.equal(batches(work, rows)[0], rows * 2)
    assert sum(seen) == 10
    assert batches.limit == 2
    assert batches.halvings == 2


def test_one_row_that_does_not_fit_is_said_so() -> None:
    def work(rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(SetupError, match="out of memory"):
        Batches()(work, torch.zeros(4, 1))


def test_other_errors_are_not_taken_for_it() -> None:
    def work(rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        Batches()(work, torch.zeros(4, 1))
    assert refused(MemoryError())
    assert not refused(ValueError("out of memory"))
