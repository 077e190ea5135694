"""The company's server: a federation for each task, which has no data.

python -m acme.server mqtts://broker:8883 SECRETS FOLDER
"""

import json
import sys
from pathlib import Path

import torch

import fedjury
from acme.training import BATCH, EPOCHS, ROUNDS, TASKS, quality


def federation(task, broker, folder, secrets="", **settings):
    """Return the federation of a task; it needs no more than two updates a round."""
    return fedjury.Federation(
        task.NAME,
        broker,
        model=task.net(),
        folder=folder,
        secrets=secrets,
        devices=fedjury.Devices(min=2),
        deadline="2s",
        every=0.8,  # or, on a busy machine, all would be over before the late one has started
        settings={
            "training.epochs": EPOCHS,
            "training.batch_size": BATCH,
            "validation.seconds": 2.0,  # for what devices measure
            **settings,
        },
    )


def measured(task, result):
    """Return what the run's last model is worth on samples that no device has."""
    model = task.net()
    model.load_state_dict(result.state_dict())
    return quality(task, model)


def main(broker, secrets, folder):
    """Run all federations at once; what they come to is in FOLDER/results.json."""
    torch.set_num_threads(1)
    running = {name: federation(task, broker, folder, secrets) for name, task in TASKS.items()}
    for each in running.values():
        each.start(ROUNDS)
    results = {name: each.wait() for name, each in running.items()}
    told = {
        name: {
            "quality": measured(TASKS[name], result),
            "history": result.history,
            "devices": result.devices,
            "travels": [list(array.shape) for array in result.arrays().values()],
            "bytes_in": [record.traffic.bytes_in for record in result.records],
        }
        for name, result in results.items()
    }
    (Path(folder) / "results.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
