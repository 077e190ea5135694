"""PyTorch's optimizers, with options that can stand in a settings file."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from fedjury.registry import optimizer
from fedjury.registry.bounds import NotNegative, Positive, Probability


@optimizer
def sgd(
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    momentum: NotNegative = 0.0,
    weight_decay: NotNegative = 0.0,
) -> torch.optim.Optimizer:
    """Build stochastic gradient descent with momentum."""
    return torch.optim.SGD(parameters, learning_rate, momentum, weight_decay=weight_decay)


@optimizer
def adam(
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    beta1: Probability = 0.9,
    beta2: Probability = 0.999,
    eps: Positive = 1e-8,
    weight_decay: NotNegative = 0.0,
) -> torch.optim.Optimizer:
    """Build Adam (Kingma, Ba, ICLR 2015)."""
    betas = beta1, beta2
    return torch.optim.Adam(parameters, learning_rate, betas, eps, weight_decay)


@optimizer
def adamw(
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    beta1: Probability = 0.9,
    beta2: Probability = 0.999,
    eps: Positive = 1e-8,
    weight_decay: NotNegative = 0.01,
) -> torch.optim.Optimizer:
    """Build AdamW, Adam with decoupled weight decay (Loshchilov, Hutter, ICLR 2019)."""
    betas = beta1, beta2
    return torch.optim.AdamW(parameters, learning_rate, betas, eps, weight_decay)
