"""Benchmarks: what the product costs, beside its targets and its peers."""
