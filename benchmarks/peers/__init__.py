"""The peers on our main workload: ``python benchmarks/peers/run.py``."""
