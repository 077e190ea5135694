"""The peers on our main workload: ``python tools/benchmarks/peers/run.py``."""
