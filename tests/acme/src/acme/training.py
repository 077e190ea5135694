"""Training and measuring, the same for a device and for all data in one place."""

import torch

from acme import heads, parts, pumps, signals, words

TASKS = {task.NAME: task for task in (pumps, signals, parts, heads, words)}
SIZES = {"steady": 120, "killed": 37, "late": 500, "slow": 3, "idle": 0}
"""Device -> its samples."""

LACKS = {"steady": 0, "killed": 1, "slow": 2}
"""Device -> the class that it has never seen."""

TESTED, ROUNDS, EPOCHS, BATCH = 2000, 26, 2, 32


def data_of(task, device):
    """Return what a device has."""
    seed = 100 + list(SIZES).index(device)
    return task.samples(SIZES[device], seed, LACKS.get(device))


def held_out(task, n=TESTED, seed=7):
    """Return samples that no device has."""
    return task.samples(n, seed)


def fit(task, model, x, y, *, epochs, batch_size, step):
    """Train for some epochs; ``step``: the round, by which learning rates fall."""
    model.train()
    optimizer = task.optimizer(model, step)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(batch_size):
            optimizer.zero_grad()
            task.loss(model, x[batch], y[batch]).backward()
            optimizer.step()


@torch.no_grad()
def predict(task, model, x):
    """Return the model's answers."""
    model.eval()
    return task.answers(model, x)


def quality(task, model):
    """Return a model's metrics on samples that no device has."""
    x, y = held_out(task)
    return task.figures(predict(task, model, x), y)


def pooled(task):
    """Return what the same model is worth that has all the data in one place."""
    parts = [data_of(task, device) for device in SIZES]
    x, y = (torch.cat(each) for each in zip(*parts, strict=True))
    model = task.net()
    torch.manual_seed(0)
    for step in range(1, ROUNDS + 1):
        fit(task, model, x, y, epochs=EPOCHS, batch_size=BATCH, step=step)
    return quality(task, model)
