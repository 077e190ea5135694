"""Doors for people and programs: HTTP, the live page, the terminal, Prometheus."""
