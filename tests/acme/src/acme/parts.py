"""Pictures of parts on a belt: batch norm, dropout, Adam, a learning rate that falls."""

import math

import torch
from torch import nn

NAME, METRIC = "parts", "accuracy"
CLASSES, ROUNDS = 4, 26


def net():
    """Build the network."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(128, CLASSES),
    )


def samples(n, seed, without=None):
    """Photograph n parts, (n, 1, 12, 12), of four kinds (n,), one of them perhaps left out."""
    draws = torch.Generator().manual_seed(seed)
    kinds = torch.tensor([kind for kind in range(CLASSES) if kind != without])
    y = kinds[torch.randint(len(kinds), (n,), generator=draws)]
    shapes = torch.zeros(CLASSES, 12, 12)
    shapes[0, 5:7, 2:10] = shapes[1, 2:10, 5:7] = shapes[2, 3:9, 3:9] = 1
    shapes[3] = torch.eye(12)
    x = shapes[y] + 0.8 * torch.randn(n, 12, 12, generator=draws)
    return x[:, None], y


def loss(model, x, y):
    """Compute cross-entropy with a little doubt about the labels."""
    return nn.functional.cross_entropy(model(x), y, label_smoothing=0.05)


def optimizer(model, step):
    """Return what changes the weights in a round: ever less, along half a cosine."""
    rate = 0.01 * (0.1 + 0.9 * (1 + math.cos(math.pi * min(step / ROUNDS, 1))) / 2)
    return torch.optim.Adam((p for p in model.parameters() if p.requires_grad), rate)


def answers(model, x):
    """Name the kind of each part (n,)."""
    return model(x).argmax(1)


def figures(predictions, y):
    """Return the metrics by name."""
    return {"accuracy": (predictions == y).float().mean().item()}
