"""Faults on purpose: real programs and a real broker, killed, stalled and flooded."""
