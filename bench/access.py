"""Access: how many verdicts a second, how much commands in flight gain, how soon a change reaches Exchange, and how
much memory it takes to decide of everybody.

The three are measured one after the other, each in processes of its own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench import access_act
from bench.access_decide import DEVICES as DECIDED
from bench.children import measured
from bench.report import machine, publish


def main() -> None:
    decided = measured("bench.access_decide")
    with tempfile.TemporaryDirectory(prefix="gh-bench-") as folder:
        rates = access_act.act_rates(Path(folder) / "rates")
        latency = access_act.change_latency(Path(folder) / "latency")
    results = {
        "decide_per_second": decided["decide_per_second"],
        "act_parallel_over_serial": rates["act_parallel_over_serial"],
        "change_to_enforced_p95_s": latency["change_to_enforced_p95_s"],
        "access_peak_mb": latency["decided_peak_mb"],
    }
    lines = [
        f"`make bench ONLY=access`, {machine()}; lab and product share the cores.",
        "",
        "| What | Measured | Goal |",
        "|---|---:|---:|",
        f"| `decide_per_second`: match and decide, {DECIDED:,} devices, one core "
        f"| {decided['decide_per_second']:,.0f} | ≥ 50,000 |",
        f"| plan, devices a second | {decided['plan_per_second']:,.0f} | |",
        f"| a full sync that decides of {access_act.DEVICES:,} devices for the first time "
        f"| {latency['decided_seconds']:.0f} s | |",
        f"| `access_peak_mb`: the largest process of its worker | {latency['decided_peak_mb']:.0f} MB | ≤ 250 MB |",
        f"| one command after another, {access_act.SERVER_SECONDS:.1f} s each at the server, a second "
        f"| {rates['act_serial_per_second']:.1f} | |",
        f"| {access_act.IN_FLIGHT} in flight, {access_act.COMMANDS:,} commands, a second "
        f"| {rates['act_parallel_per_second']:.1f} | |",
        f"| `act_parallel_over_serial` | {rates['act_parallel_over_serial']:.1f} | ≥ 5 |",
        f"| change of compliance to Exchange, median of {latency['changes']}, {access_act.DEVICES:,} devices "
        f"| {latency['change_to_enforced_median_s']:.2f} s | |",
        f"| `change_to_enforced_p95_s` | {latency['change_to_enforced_p95_s']:.2f} s | ≤ 5 s |",
    ]
    publish("access", results, lines)


if __name__ == "__main__":
    main()
