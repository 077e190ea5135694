"""Secure aggregation: the aggregator learns the sum of a group's updates, and nothing else of them.

SecAgg+ (Bell et al., CCS 2020) against a server that follows the protocol, but would like to know.
All here is pure; ``agent`` and ``group`` are the two sides of it.
"""
