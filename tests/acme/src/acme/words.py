"""What a fault report is about, from its token ids: an embedding and its mean."""

import torch
from torch import nn

from acme import parts

NAME, METRIC, CLASSES = "words", "accuracy", 3
VOCABULARY, LENGTH = 60, 12


class Classifier(nn.Module):
    """The mean of the tokens' embeddings, and a layer."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 16)
        self.output = nn.Linear(16, CLASSES)

    def forward(self, tokens):
        """Return logits (n, classes) of ids (n, length)."""
        return self.output(self.embedding(tokens).mean(1))


def net():
    """Build the network."""
    torch.manual_seed(5)
    return Classifier()


def samples(n, seed, without=None):
    """Read n reports: ids (n, 12), of which a third tells the subject (n,)."""
    draws = torch.Generator().manual_seed(seed)
    kinds = torch.tensor([kind for kind in range(CLASSES) if kind != without])
    y = kinds[torch.randint(len(kinds), (n,), generator=draws)]
    common = torch.randint(VOCABULARY, (n, LENGTH), generator=draws)
    special = y[:, None] * 20 + torch.randint(20, (n, LENGTH), generator=draws)
    chosen = torch.rand(n, LENGTH, generator=draws) < 0.35
    return torch.where(chosen, special, common), y


def loss(model, x, y):
    """Compute cross-entropy."""
    return nn.functional.cross_entropy(model(x), y)


def optimizer(model, step):
    """Return what changes the weights in a round."""
    return torch.optim.AdamW(model.parameters(), 0.02)


answers = parts.answers
figures = parts.figures
