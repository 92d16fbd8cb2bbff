"""A full sync of 50,000 devices against pypsrp as shipped and against the raw limit, and the worker's memory.

Side by side: lab, devices and machine are the same, and the fast parties are measured several times in turn (the
median counts). Stock pypsrp takes minutes for one listing, so it is measured once, in between.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.children import ROOT, Lab, lab, measured
from bench.report import machine, publish

DEVICES = int(os.environ.get("BENCH_DEVICES", "50000"))
MEMORY_SIZES = (5_000, 100_000)
ROUNDS = 3
SEED = "7"
ORGANIZATION = "Bench"


def specification(devices: int) -> list[str]:
    return ["--seed", SEED, "--organization", f"name={ORGANIZATION},version=2016,cas=1,devices={devices}"]


def target(state: Lab, **extra: Any) -> str:
    organization = state.organization(ORGANIZATION)
    server = organization["servers"][0]
    account = next(a for a in organization["accounts"] if a["role"] == "connector")
    return json.dumps(
        {
            "fqdn": server["fqdn"],
            "host": server["host"],
            "port": server["http_port"],
            "user": account["user"],
            "password": account["password"],
            "organization": ORGANIZATION,
            "control": state.state["control"],
            **extra,
        }
    )


def raw_rate(dump: Path) -> float:
    """Objects a second by plain HTTP and expat; server and client are processes of their own, as in the other cases."""
    server = subprocess.Popen(
        [sys.executable, "-m", "bench.raw", "serve", str(dump)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        return rate(measured("bench.raw", "fetch", port))
    finally:
        server.kill()
        server.wait()


def rate(result: dict[str, Any]) -> float:
    return float(result["objects"] / result["seconds"])


def measure_rates(home: Path, state: Lab) -> dict[str, list[float]]:
    """Objects a second of each party, in turns."""
    for select in (False, True):
        measured("bench.observe", target(state, select=select, dump=str(home / f"dump-{select}")))
    rates: dict[str, list[float]] = {name: [] for name in ("raw", "raw_selected", "observe", "observe_selected")}
    for _ in range(ROUNDS):
        rates["raw"].append(raw_rate(home / "dump-False"))
        rates["observe"].append(rate(measured("bench.observe", target(state, select=False))))
        rates["raw_selected"].append(raw_rate(home / "dump-True"))
        rates["observe_selected"].append(rate(measured("bench.observe", target(state, select=True))))
    return rates


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="gh-bench-") as folder:
        home = Path(folder)
        with lab(home / "lab", *specification(DEVICES)) as state:
            rates = measure_rates(home, state)
            products = [
                measured("bench.product", target(state, steady=2), env={"GATEHOUSE_HOME": str(home / f"product-{n}")})
                for n in range(ROUNDS)
            ]
            stock = measured("bench.stock", target(state))
        memory = {}
        for devices in MEMORY_SIZES:
            with lab(home / f"lab-{devices}", *specification(devices)) as state:
                memory[devices] = measured(
                    "bench.product", target(state, steady=1), env={"GATEHOUSE_HOME": str(home / f"product-{devices}")}
                )["worker_peak_mb"]
    report(rates, products, rate(stock), memory)


def report(
    rates: dict[str, list[float]], products: list[dict[str, Any]], stock: float, memory: dict[int, float]
) -> None:
    median = {name: statistics.median(values) for name, values in rates.items()}
    devices = products[0]["devices"]
    steady = devices / statistics.median(seconds for product in products for seconds in product["steady_seconds"])
    first = devices / statistics.median(product["first_seconds"] for product in products)
    results = {
        "sync_full_over_stock": steady / stock,
        "sync_first_over_stock": first / stock,
        "observe_over_raw": median["observe"] / median["raw"],
        "observe_selected_over_raw": median["observe_selected"] / median["raw"],
        "observe_selected_over_raw_selected": median["observe_selected"] / median["raw_selected"],
        "worker_peak_mb_5k": memory[5_000],
        "worker_peak_mb_100k": memory[100_000],
    }
    rows = [
        ("Stock pypsrp, drained", stock, 1.0),
        ("First full sync (all new, stored)", first, first / stock),
        ("Steady full sync (1 % changed, stored)", steady, steady / stock),
        ("Observe, whole objects, parsed", median["observe"], median["observe"] / stock),
        ("Observe, Select-Object, parsed", median["observe_selected"], median["observe_selected"] / stock),
        ("Raw limit, whole objects", median["raw"], median["raw"] / stock),
        ("Raw limit, the selected bytes", median["raw_selected"], median["raw_selected"] / stock),
    ]
    lines = [
        f"`make bench ONLY=sync`, {devices:,} devices, {machine()}; lab and client share the cores.",
        "",
        "| What | Devices a second | Times stock |",
        "|---|---:|---:|",
        *(f"| {name} | {value:,.0f} | {times:.1f} |" for name, value, times in rows),
        "",
        "| Ratio | Measured | Goal |",
        "|---|---:|---:|",
        f"| `sync_full_over_stock` | {results['sync_full_over_stock']:.1f} | ≥ 20 |",
        f"| `sync_first_over_stock` | {results['sync_first_over_stock']:.1f} | ≥ 10 |",
        f"| `observe_over_raw` | {results['observe_over_raw']:.2f} | ≥ 0.60 |",
        f"| `observe_selected_over_raw` (raw: whole objects) | {results['observe_selected_over_raw']:.2f} | ≥ 1.00 |",
        f"| the same against the raw limit of the selected bytes "
        f"| {results['observe_selected_over_raw_selected']:.2f} | |",
        f"| `worker_peak_mb_5k` | {memory[5_000]:.0f} | ≤ 200 |",
        f"| `worker_peak_mb_100k` | {memory[100_000]:.0f} | ≤ 200 |",
    ]
    publish("sync", results, lines)
