"""Differential privacy, central: the aggregator adds noise to what becomes of a round's updates.

``noise.py`` draws it, ``noisy_mean.py`` adds it, and ``accounting.py`` says what that costs.
"""
