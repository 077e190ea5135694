"""Differential privacy, central: the aggregator adds noise to what becomes of a round's updates.

``noise.py`` draws it, ``release.py`` makes the noisy mean, ``accounting.py`` says what that costs.
"""
