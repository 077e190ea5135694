"""Fuzzing: hostile bytes for everything that decodes. ``python -m tools.fuzz --help``."""
