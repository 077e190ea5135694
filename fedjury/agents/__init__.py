"""Agents: honest ones who learn from their own data, and fakes who do not."""
