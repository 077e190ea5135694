"""The server of the clinics: it has no patient, and needs none.

Devices are clinic_device.py, five of them; they and the server may start in any order.

python examples/clinic_server.py mqtt://127.0.0.1:1883
"""

from __future__ import annotations

import sys

from torch import nn

import fedjury

model = nn.Sequential(nn.BatchNorm1d(10), nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1))
clinics = fedjury.Devices(min=5)
federation = fedjury.Federation("clinics", sys.argv[1], model=model, devices=clinics)
result = federation.run(rounds=20)
print(f"error at the clinics: {result.history[-1]['train_rmse']:.1f}")
print("saved:", result.save("clinics.safetensors"))
