"""The example in docs/federation.md does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import fedjury
from fedjury.config.settings import field_of

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "federation.md").read_text(encoding="utf-8")


def test_its_five_pumps_learn_the_plane(capsys):
    """The error all but vanishes, and the weights are those of the plane."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    assert names["result"].history[-1]["rmse"] < 0.03
    np.testing.assert_allclose(names["result"].state_dict()["w"], names["PLANE"], atol=0.03)
    assert float(capsys.readouterr().out.split()[0]) < 0.03


def test_its_first_lines_make_a_federation(tmp_path):
    """With a model, as printed; the folder is elsewhere here."""
    [code] = re.findall(r"```\n(federation = .*?)\nresult", PAGE, flags=re.DOTALL)
    code = code.replace('"-rmse"', f'"-rmse", folder={str(tmp_path)!r}')
    names = {"fedjury": fedjury, "Sensor": lambda: {"w": np.zeros(2)}}
    exec(code, names)
    assert names["federation"].name == "pumps"


@pytest.mark.parametrize("setting", ["limits.samples", "collect.missed"])
def test_the_settings_it_names_are_there(setting):
    """And none that is gone."""
    assert setting in PAGE
    assert field_of(setting)
