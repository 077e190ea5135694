"""examples/mpaf_over_http: the programs as people type them, and their classes from Python."""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from pathlib import Path

import classifier
import client
import clients_sim
import httpx
import mpaf
import numpy as np
import pytest
import server as server_program
import torch
import torch.nn.functional as F
from classifier import Net, random_dataloader
from client import Client, load_model
from clients_sim import ClientSim
from mpaf import MPAF
from server import FederatedLearning
from support import warm
from support.federation import one_thread  # noqa: F401 - a fixture
from support.listening import until
from support.network import ENVIRONMENT, ROOT
from test_gateway_network import door

from fedjury.gateway.client import GatewayError
from fedjury.learning.weights import flatten

EXAMPLES = ROOT / "examples" / "mpaf_over_http"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Copy the programs into a project that holds no trained classifier yet."""
    folder = tmp_path_factory.mktemp("project")
    for package in ROOT.glob("*/__init__.py"):
        (folder / package.parent.name).symlink_to(package.parent)
    programs = folder / "examples" / EXAMPLES.name
    programs.mkdir(parents=True)
    for file in EXAMPLES.glob("*.py"):
        (programs / file.name).write_bytes(file.read_bytes())
    return programs


@pytest.fixture(scope="module")
def server(project, tmp_path_factory):
    """Start ``python server.py 10`` in its folder, for the first time."""
    with door(tmp_path_factory.mktemp("runs"), "10", program=[str(project / "server.py")]) as made:
        until(made.healthy, 60)
        made.http = httpx.Client(base_url=made.address, trust_env=False)
        with made.http, client.session(made.address):
            yield made


def ran(project, *command):
    """Run a program in its folder until it ends by itself; returns what it said."""
    done = warm.run(
        [sys.executable, *command],
        cwd=project,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def updates(server):
    """Say how many updates the server has taken in all its rounds."""
    said = server.http.get("/healthz").json()
    return 10 * (said["round"] - 1) + said["answered"]


def to_the_next_round(server):
    """Send zeros until the round closes, so that a test finds an empty one."""
    for _ in range(-updates(server) % 10):
        client.session(server.address).contribute(lambda start: np.zeros_like(start.weights), 1)
    until(lambda: server.http.get("/healthz").json()["answered"] == 0, 30)


# ---------------------------------------------------------------- as they are typed


def test_the_server_starts_with_a_trained_classifier(server, project):
    """It is trained once, saved as classifier.pth, and at least 87 % right before any round."""
    [before] = server.http.get("/model/accuracy").json()
    assert before >= 0.87
    saved = torch.load(project / "classifier.pth", weights_only=True)
    names = ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert list(saved) == [f"{name}.{part}" for name in names for part in ("weight", "bias")]
    shown = server.http.get("/model/").json()
    assert shown.keys() == saved.keys()
    assert torch.equal(torch.tensor(shown["fc3.bias"]), saved["fc3.bias"])


def test_three_clients_one_after_the_other_end(server, project, capsys):
    """Each trains, sends one update and is done, though the round waits for seven more."""
    said = [ran(project, "client.py", server.address)]
    for arguments in ([server.address, "100"], [server.address, "5", "--seed", "3"]):
        assert client.main(arguments) == 0
        said.append(capsys.readouterr().out)
    assert said == [f"sent as http-00{number} in round 1\n" for number in range(3)]
    assert updates(server) == 3


def test_a_client_of_ones_own_needs_json_and_nothing_else(server):
    """GET a state dict, POST one of the same form: no version, no name, no header of ours."""

    def ask(content=None):
        kind = {"Content-Type": "application/json"} if content else {}
        return urllib.request.urlopen(
            urllib.request.Request(f"{server.address}/model", content, kind), timeout=10
        )

    before = updates(server)
    with ask() as answer:
        state = json.load(answer)
    net = Net()
    net.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    update = {name: torch.zeros_like(value).tolist() for name, value in net.state_dict().items()}
    with ask(json.dumps(update).encode()) as answer:
        assert answer.status == 202
    assert updates(server) == before + 1


def test_the_simulation_prints_the_history_and_leaves_room(server, project, capsys):
    """Eight honest clients and two fakes close a round; whoever comes then is let in."""
    to_the_next_round(server)
    before = server.http.get("/model/accuracy").json()
    arguments = [server.address, ".2", "10", "1", "4", "--rounds", "1"]
    said = ran(project, "clients_sim.py", *arguments)
    assert "8 honest clients and 2 fakes" in said
    history = json.loads(re.search(r"accuracy: (\[.*\])", said)[1])
    assert len(history) == len(before) + 1
    assert all(0 <= accuracy <= 1 for accuracy in history)
    assert client.main([server.address]) == 0
    assert mpaf.main([server.address, "0"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines() == [
        f"sent as http-00{number} in round {len(before) + 1}" for number in range(2)
    ]


def test_fakes_alone_arrive_at_their_target(server):
    """Ten steps of scale 1 have the mean t - w: the global model is t, which knows nothing."""
    to_the_next_round(server)
    sim = ClientSim(server.address, 1, 10, 1, 4)
    assert sim.good_clients == []
    sim.send_updates()
    history = sim.report()
    assert history[-2] > 0.7
    assert history[-1] < 0.4
    reached = flatten(load_model(server.address))
    assert np.allclose(reached, flatten(sim.mpaf.target_model), atol=1e-5)


def test_training_over_http_learns(server):
    """Ten honest clients with twenty samples each: the loss on held-out digits falls."""
    to_the_next_round(server)
    data = classifier.dataset()
    x, y = torch.from_numpy(data.x_test), torch.from_numpy(data.y_test)

    def loss():
        return F.cross_entropy(load_model(server.address)(x), y).item()

    before = loss()
    sim = ClientSim(server.address, 0, 10, 1, 20)
    sim.send_updates()
    sim.report()
    assert loss() < before


# ---------------------------------------------------------------- from Python


def test_a_federation_in_one_process():
    """Two updates of .2 and .4 move every weight by .3, and the model is tested; a third waits."""
    net = Net(seed=1)
    before = flatten(net)
    model = FederatedLearning(net, 2)
    for step in (0.2, 0.4, 5.0):
        model.update({name: torch.full_like(v, step) for name, v in net.state_dict().items()})
    assert np.allclose(flatten(net), before + 0.3, atol=1e-6)
    assert len(model.historical_accuracy) == 2
    assert len(model.client_updates) == 1
    model.update({name: v.tolist() for name, v in net.state_dict().items()})  # as JSON has it
    assert len(model.historical_accuracy) == 3
    assert model.client_updates == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda update: update.pop("fc1.bias"), "fc1.bias"),
        (lambda update: update.update({"fc3.bias": torch.zeros(9)}), "list of 9, not 10"),
        (lambda update: update.update({"fc3.bias": torch.full((10,), np.nan)}), "not finite"),
    ],
)
def test_what_is_no_update_changes_nothing(change, word):
    """As on the server, a missing tensor, a wrong shape and NaN are refused with a sentence."""
    net = Net(seed=1)
    model = FederatedLearning(net, 1)
    update = {name: torch.ones_like(value) for name, value in net.state_dict().items()}
    change(update)
    with pytest.raises(ValueError, match=word):
        model.update(update)
    assert (model.client_updates, len(model.historical_accuracy)) == ([], 1)
    with pytest.raises(ValueError, match="no update"):
        model.aggregate()


def test_training_takes_a_loader_and_returns_its_losses():
    """Five epochs by default, each over all samples; on forty digits the loss falls."""
    loader = random_dataloader(40, seed=3)
    net = Net(seed=1)
    losses = classifier.train_model(net, loader)
    assert len(losses) == 5
    assert losses[-1] < losses[0]
    assert len(classifier.train_model(net, loader, epoch=2)) == 2
    assert 0 <= classifier.test_model(net) <= 1


def test_samples_are_different_and_as_many_as_asked_for():
    """Batches of four, all drawn from the training set; the seed says which, or none does."""
    loader = random_dataloader(50, seed=3)
    assert [len(labels) for _, labels in loader] == [4] * 12 + [2]
    images = loader.dataset.tensors[0].flatten(1)
    assert len(torch.unique(images, dim=0)) == 50
    again, other, third = (random_dataloader(50, seed=s) for s in (3, 4, None))
    assert torch.equal(again.dataset.tensors[0].flatten(1), images)
    assert not torch.equal(other.dataset.tensors[0].flatten(1), images)
    assert not torch.equal(third.dataset.tensors[0].flatten(1), images)


def test_networks_are_random_unless_seeded():
    """Two targets differ; torch.manual_seed makes them the same."""
    assert not np.array_equal(flatten(Net()), flatten(Net()))
    torch.manual_seed(7)
    first = flatten(Net())
    torch.manual_seed(7)
    assert np.array_equal(flatten(Net()), first)


@pytest.mark.parametrize(
    ("clients", "evil", "order"),
    [(10, 2, "....x....x"), (5, 0, "....."), (3, 3, "xxx"), (8, 3, "..x..x.x"), (1, 0, ".")],
)
def test_fakes_are_spread_among_the_good(clients, evil, order):
    """One after every (1 - p) / p good ones, and exactly as many as there are to be."""
    assert "".join(".x"[had] for had in clients_sim.turns(clients, evil)) == order


# ---------------------------------------------------------------- mistakes


NOBODY = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("program", "arguments", "word"),
    [
        (client, [NOBODY], "no gateway answers"),
        (clients_sim, [NOBODY], "no gateway answers"),
        (mpaf, [NOBODY], "no gateway answers"),
        (clients_sim, [NOBODY, "2"], "percent_evil"),
        (clients_sim, [NOBODY, "nan"], "percent_evil"),
        (clients_sim, [NOBODY, "0", "0"], "num_clients"),
        (clients_sim, [NOBODY, "0", "1" + 12 * "0"], "num_clients"),
        (clients_sim, [NOBODY, "0", "9", "inf"], "scaling of inf"),
        (clients_sim, [NOBODY, "0", "9", "1", "-4"], "-4 samples"),
        (clients_sim, [NOBODY, "--rounds", "0"], "--rounds"),
        (client, [NOBODY, "99999"], "99999 samples"),
        (client, [NOBODY, "--data", "mnist5"], "mnist5k"),
        (client, ["http://" + 80 * "a" + ".invalid"], "no gateway answers"),
        (client, ["no address at all"], "no address"),
        (mpaf, [NOBODY, "nan"], "scaling of nan"),
        (mpaf, [NOBODY, "-1e39"], "scaling of"),
    ],
)
def test_mistakes_are_one_sentence(program, arguments, word):
    """A wrong address or number ends a program with one line."""
    with pytest.raises(client.EXPECTED, match=word) as raised:
        program.main(arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("seed", ["-1", "x", str(2**63)])
def test_a_seed_that_is_none_is_refused(seed, capsys):
    """Before anything is asked of a server."""
    with pytest.raises(SystemExit):
        client.main([NOBODY, "--seed", seed])
    assert "must be from 0" in capsys.readouterr().err


def test_samples_of_another_shape_are_refused(server):
    """Whoever trains on 8x8 digits cannot train a network for 28x28: one sentence."""
    loader = random_dataloader(4, "digits")
    with pytest.raises(GatewayError, match=r"inputs of \(1, 28, 28\)"):
        Client(server.address, loader).update_model()


def test_a_start_of_ones_own_is_kept():
    """--init, another network or other data: nothing is trained, and nothing is replaced."""
    plain = server_program.program.defaults()
    for change in ({"model.init": "my.pth"}, {"model.name": "mlp"}, {"data.name": "digits"}):
        [(setting, value)] = change.items()
        section, key = setting.split(".")
        record = getattr(plain, section)
        chosen = plain.__class__(
            **{**vars(plain), section: record.__class__(**{**vars(record), key: value})}
        )
        assert server_program.start(chosen) == chosen


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch, capsys):
    """The start is trained all the same, kept elsewhere, and people hear of it."""
    monkeypatch.setattr(server_program, "SAVED", tmp_path / "none" / "classifier.pth")
    made = []

    def trained(file=tmp_path / "none" / "classifier.pth"):
        made.append(file)
        if "none" in str(file):
            raise FileNotFoundError(2, "No such file or directory")
        return Path(file)

    monkeypatch.setattr(server_program, "trained", trained)
    settings = server_program.start(server_program.program.defaults())
    assert settings.model.init == str(made[1])
    assert "cannot be kept" in capsys.readouterr().out


def test_the_target_is_drawn_from_the_seed(server):
    """Two fakes of one seed pull the same way; of none, they do not."""
    one, two, three = (MPAF(server.address, 1, seed) for seed in (5, 5, None))
    assert np.array_equal(flatten(one.target_model), flatten(two.target_model))
    assert not np.array_equal(flatten(one.target_model), flatten(three.target_model))
