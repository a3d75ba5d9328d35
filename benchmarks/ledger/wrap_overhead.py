"""What `ledger.wrap` adds to a call at 64x64, accepted not awaited: python -m benchmarks.ledger.wrap_overhead

The control is the same call unwrapped, in the same run. Blocks of calls alternate between the two; before each block
the ledger is flushed, so that a control block never pays for entries of the block before it. A wrapped call pays for
reading states and hashing its picture itself, and for sharing the interpreter with the writer's thread, which signs,
commits and cosigns (three witnesses in process) while the block runs. Everything is on a real disk with real flushes.
Times on a machine that others use are theirs too; the CPU columns are not: what the calling thread itself spends more a
call, and what the whole process spends more an entry, flushing included.

`--encrypted` measures the same with an encrypted vault in the same run, and adds what appending costs beneath the
wrapping: `Vault.add` of submissions of a real record's size, plain and encrypted in turn, in batches of 1 and 1,000.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from plausible.attribution.generators import save_model_folder
from plausible.attribution.generators.dcgan import DCGAN64
from plausible.ledger import Ledger
from plausible.ledger.vault.vault import GENERATION, Submission, Vault
from plausible.ledger.vault.vaultkey import VaultKey

SAMPLING = {"output_range": [-1, 1], "rounding": "mul127.5_add128_trunc"}


def measure(call: Callable[[Any], Any], latents: list[Any]) -> tuple[list[float], list[float]]:
    """(seconds, CPU seconds of this thread) of each call."""
    seconds: list[float] = []
    busy: list[float] = []
    for z in latents:
        start, used = time.perf_counter(), time.thread_time()
        call(z)
        busy.append(time.thread_time() - used)
        seconds.append(time.perf_counter() - start)
    return seconds, busy


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--calls", type=int, default=20, help="calls in a block")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit-ms", type=float, default=1.0)
    parser.add_argument("--encrypted", action="store_true", help="with an encrypted vault too")
    parser.add_argument("--json", action="store_true", help="only the JSON document, on stdout")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    module = DCGAN64().eval()
    with tempfile.TemporaryDirectory(prefix="wrap-overhead-") as folder, torch.inference_mode():
        save_model_folder(Path(folder) / "model", "faces", module, "dcgan-64", {}, SAMPLING)
        keys = {"": None, ", encrypted": VaultKey(os.urandom(32), passphrase=False)}
        rows: dict[str, dict[str, float]] = {}
        for ending, key in keys.items() if options.encrypted else [("", None)]:
            rows |= wrapped_rows(Path(folder), module, key, ending, options)
        appends = [append_row(Path(folder), batch, keys) for batch in (1, 1000)] if options.encrypted else []
    document = {"format": "plausible.bench.wrap_overhead/1", "limit_ms": options.limit_ms, "rows": rows}
    if appends:
        document["vault_add"] = appends
    if not options.json:
        for name, row in rows.items():
            print(f"{name}: " + "  ".join(f"{key} {value:.3f}" for key, value in row.items()))
        for row in appends:
            print("vault add: " + "  ".join(f"{key} {value:.4g}" for key, value in row.items()))
    print(json.dumps(document))
    worst = max(row["overhead_ms"] for row in rows.values())
    print(f"median overhead {worst:.3f} ms a call, limit {options.limit_ms} ms", file=sys.stderr)
    return 0 if worst < options.limit_ms else 1


def wrapped_rows(
    folder: Path, module: Any, key: VaultKey | None, ending: str, options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """One ledger, with a plain or an encrypted vault: a row with latents given and one with latents drawn."""
    rows: dict[str, dict[str, float]] = {}
    witnesses = ("one.example/w", "two.example/w", "three.example/w")
    place = folder / f"l{ending[2:]}"
    with Ledger.init(place, author="models.example/studio", witnesses=witnesses, vault_key=key) as ledger:
        ledger.register_model("faces", folder=folder / "model")
        for name in ("latent given", "latent drawn"):
            wrapped = ledger.wrap(module, model="faces", latent="z")
            rows[name + ending] = compare(ledger, module, wrapped, options, drawn=name == "latent drawn")
        counters = ledger.counters
        ledger.flush()
        assert counters.failed == 0 and counters.accepted == counters.submitted, counters
    return rows


def append_row(folder: Path, batch: int, keys: dict[str, VaultKey | None], rounds: int = 15) -> dict[str, float]:
    """`Vault.add` of `batch` submissions with records of 2 kB: medians in ms, plain and encrypted in turn."""
    names = {"": "plain", ", encrypted": "encrypted"}
    vaults = {names[e]: Vault.create(folder / f"{batch}-{names[e]}.db", key=key) for e, key in keys.items()}
    wall: dict[str, list[float]] = {name: [] for name in vaults}
    cpu: dict[str, list[float]] = {name: [] for name in vaults}
    for number in range(rounds + 1):
        for name, vault in vaults.items():
            rows = [
                Submission(
                    os.urandom(16), GENERATION, bytes(32), "m", number * batch + i, os.urandom(32), None,
                    os.urandom(32), os.urandom(32), os.urandom(2048),
                )
                for i in range(batch)
            ]  # fmt: skip
            start, used = time.perf_counter(), time.process_time()
            vault.add(rows)
            if number:
                cpu[name].append(time.process_time() - used)
                wall[name].append(time.perf_counter() - start)
    for vault in vaults.values():
        vault.close()
    row = {"batch": float(batch), "n": float(rounds)}
    for name in vaults:
        row[f"{name}_ms"] = statistics.median(wall[name]) * 1e3
        row[f"{name}_cpu_ms"] = statistics.median(cpu[name]) * 1e3
    row["cpu_us_more_a_row"] = (row["encrypted_cpu_ms"] - row["plain_cpu_ms"]) / batch * 1e3
    return row


def compare(ledger: Ledger, module: Any, wrapped: Any, options: argparse.Namespace, *, drawn: bool) -> dict[str, float]:
    """Milliseconds: medians over all calls, and the overhead as the median over blocks of what their medians differ by.

    A block of either kind stands beside one of the other, so that a machine that slows down slows down both.
    """
    seconds: dict[str, list[float]] = {"plain": [], "wrapped": []}
    differences: list[float] = []
    busy: list[float] = []
    whole: list[float] = []
    for block in range(options.blocks + 1):
        latents = [torch.randn(1, 100) for _ in range(options.calls)]
        # an integer in the latent's place asks for that many committed latents
        given: dict[str, list[Any]] = {"plain": latents, "wrapped": [1] * len(latents) if drawn else latents}
        medians: dict[str, float] = {}
        cpu: dict[str, float] = {}
        used: dict[str, float] = {}
        for name in ("plain", "wrapped") if block % 2 else ("wrapped", "plain"):
            ledger.flush()
            began = time.process_time()
            taken, taken_cpu = measure(module if name == "plain" else wrapped, given[name])
            ledger.flush()
            used[name] = time.process_time() - began
            medians[name], cpu[name] = statistics.median(taken), statistics.median(taken_cpu)
            if block:  # the first block warms up
                seconds[name] += taken
        if block:
            differences.append(medians["wrapped"] - medians["plain"])
            busy.append(cpu["wrapped"] - cpu["plain"])
            whole.append((used["wrapped"] - used["plain"]) / len(latents))
    low, _, high = statistics.quantiles(differences, n=4)
    return {
        "n": len(seconds["wrapped"]),
        "plain_ms": statistics.median(seconds["plain"]) * 1e3,
        "wrapped_ms": statistics.median(seconds["wrapped"]) * 1e3,
        "overhead_ms": statistics.median(differences) * 1e3,
        "overhead_q1_ms": low * 1e3,
        "overhead_q3_ms": high * 1e3,
        "caller_cpu_ms": statistics.median(busy) * 1e3,
        "process_cpu_ms": statistics.median(whole) * 1e3,
    }


if __name__ == "__main__":
    sys.exit(main())
