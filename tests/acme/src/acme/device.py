"""A device of the company: it takes part in a run for each of its tasks, with one login.

python -m acme.device steady mqtts://broker:8883 SECRETS
"""

import signal
import sys
import threading
import time

import torch

import fedjury
from acme.training import SIZES, TASKS, data_of, fit, held_out, predict

PACE, TEN_TIMES = 0.3, 10
"""Seconds that training takes at the least, and what makes a device slow."""


def device(task, name, broker="memory:", secrets="", pace=0.0):
    """Return the device of this name in the run of a task."""
    x, y = data_of(task, name)
    test_x, test_y = held_out(task, SIZES[name], seed=50 + SIZES[name])
    made = fedjury.Device(
        name, broker, run=task.NAME, model=task.net(), secrets=secrets, say=lambda _: None
    )

    @made.train
    def train(model, turn):
        begun = time.monotonic()
        step = turn.round
        fit(task, model, x, y, epochs=turn.epochs, batch_size=turn.batch_size, step=step)
        time.sleep(max(0, pace - (time.monotonic() - begun)))
        return fedjury.Trained(len(x), {"loss": task.loss(model, x, y).item()} if len(x) else {})

    @made.evaluate
    def evaluate(model, turn):
        if not len(test_x):
            return fedjury.Metrics(0)
        found = predict(task, model, test_x)
        if not task.CLASSES:
            return fedjury.Metrics(len(test_x), **task.figures(found, test_y))
        return fedjury.Metrics(len(test_x), predictions=found, targets=test_y)

    return made


def main(name, broker, secrets):
    """Take part in all runs at once, until SIGTERM."""
    torch.set_num_threads(1)
    pace = PACE * (TEN_TIMES if name == "slow" else 1)
    devices = [device(task, name, broker, secrets, pace) for task in TASKS.values()]
    threads = [threading.Thread(target=each.run) for each in devices]
    signal.signal(signal.SIGTERM, lambda *_: [each.stop() for each in devices])
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
