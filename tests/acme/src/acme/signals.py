"""A 1-D autoencoder: a vibration of 32 values through 4 numbers and back."""

import torch
from torch import nn

from acme import pumps

NAME, METRIC = "signals", "rmse"
CLASSES = 0


def net():
    """Build the network."""
    torch.manual_seed(2)
    encoder = [nn.Conv1d(1, 8, 5, stride=2, padding=2), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)]
    decoder = [nn.Linear(4, 48), nn.ReLU(), nn.Linear(48, 32), nn.Unflatten(1, (1, 32))]
    return nn.Sequential(*encoder, *decoder)


def samples(n, seed, without=None):
    """Record n vibrations of two frequencies, (n, 1, 32); what is learnt is the recording."""
    draws = torch.Generator().manual_seed(seed)
    size = torch.randn(n, 4, 1, generator=draws)
    time = torch.linspace(0, 2 * torch.pi, 32)
    waves = torch.stack(
        [torch.sin(time), torch.cos(time), torch.sin(3 * time), torch.cos(3 * time)]
    )
    x = (size * waves).sum(1, keepdim=True) + 0.2 * torch.randn(n, 1, 32, generator=draws)
    return x, x


def loss(model, x, y):
    """Compute how far the copy is from the recording."""
    return (model(x) - y).square().mean()


def optimizer(model, step):
    """Return what changes the weights in a round."""
    return torch.optim.Adam(model.parameters(), 0.004)


def answers(model, x):
    """Copy recordings (n, 1, 32)."""
    return model(x)


figures = pumps.figures
