"""Benchmarks: `make bench`, or `make bench ONLY=sync`. Ratios are measured side by side in one run.

Every measured thing is a process of its own, so that no one's garbage or warm caches help or hurt another. Results go
to GATEHOUSE_HOME/bench.json and into the marked block of docs/performance.md.
"""
