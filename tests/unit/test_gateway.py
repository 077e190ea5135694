"""The gateway's pure parts: what it knows of a run, who may post, and models as JSON."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import replace
from typing import get_args

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.by_hand import toy_manifest

from fedjury.gateway.json_tensors import strict_json, tensors_json, vector_of
from fedjury.gateway.refusal import InvalidReason, InvalidRequest
from fedjury.gateway.schemas import PhaseName, read_update
from fedjury.gateway.state import GatewayState, ReceivedUpdate, names_of, on_message, post
from fedjury.protocol.call import WHOLE, Call
from fedjury.protocol.logs import RoundRepeated
from fedjury.protocol.messages import Model, Phase, Reason, Round, RoundLog
from fedjury.protocol.record import Quality, RoundRecord, read

TENSORS = (("w", (2, 3)), ("b", (2,)))
MANIFEST = toy_manifest(
    model="toy",
    tensors=TENSORS,
    parameters=8,
    classes=2,
    input_shape=(1, 1, 3),
    max_bytes=1000,
    look_back=2,
    minimum_history=0,
)
ZEROS = np.zeros(8, np.float32)


def opened(number, *, version=0, attempt=1, phase=Phase.TRAIN, called="all"):
    return Round(number, attempt, phase, version, called, (), 60.0)


def record(number, accuracy, **more):
    return RoundLog(read({"round": number, "version": 0, "accuracy": accuracy, **more}))


def after(*messages, view=None, present=True):
    """Let a view of three slots hear messages; returns it and all that is to be sent again."""
    view, again = view or GatewayState(names_of("http", 3), connections=4), []
    for message in messages:
        view, more = on_message(view, message, present=present)
        again += more
    return view, again


def collecting(**options):
    """Return a view whose round 1 collects."""
    return after(MANIFEST, Model(0, ZEROS), record(0, 0.1), opened(1, **options))[0]


def posted(client="", version=0):
    return ReceivedUpdate(client, version, 4, ZEROS)


def sent(view, *clients, now=0.0):
    """Post for clients; returns the view and the slots that were used."""
    slots = []
    for client in clients:
        view, update = post(view, posted(client), now)
        slots.append(update.agent)
    return view, slots


def refusal(view, client="", version=0, now=0.0):
    with pytest.raises(InvalidRequest) as raised:
        post(view, posted(client, version), now)
    return raised.value.reason


# ---------------------------------------------------------------- who may post


def test_a_name_keeps_its_slot_and_others_share_the_rest():
    """A client with a name is the same agent in each round; without one, it takes what is free."""
    view, slots = sent(collecting(), "ann", "", "bob")
    assert slots == ["http-000", "http-001", "http-002"]
    view, _ = after(Model(1, ZEROS), record(1, 0.2), opened(2, version=1), view=view)
    for client, slot in (("bob", "http-002"), ("", "http-001"), ("ann", "http-000")):
        view, update = post(view, posted(client, 1), 0.0)
        assert (update.agent, update.round, update.version) == (slot, 2, 1)


def test_each_slot_answers_once_a_round():
    """A second post under the same name is a duplicate; without a name there is no slot left."""
    view, _ = sent(collecting(), "ann", "", "")
    assert refusal(view, "ann") is Reason.DUPLICATE
    assert refusal(view) is InvalidReason.NO_SLOT
    assert refusal(view, "new") is InvalidReason.NO_SLOT


def test_names_cannot_take_more_slots_than_there_are():
    """With all slots bound, a fourth name is refused, in this round and in the next."""
    view, _ = sent(collecting(), "ann", "bob", "cid")
    assert refusal(view, "dan") is InvalidReason.NO_SLOT
    view, _ = after(record(1, 0.2), opened(2), view=view)
    assert refusal(view, "dan") is InvalidReason.NO_SLOT
    assert refusal(view) is InvalidReason.NO_SLOT
    assert sent(view, "cid")[1] == ["http-002"]


def test_a_slot_comes_free_once_its_client_is_gone():
    """After a minute's silence a newcomer has the slot of whoever has been silent the longest."""
    view, _ = sent(collecting(), "ann", now=10)
    view, _ = sent(view, "bob", "cid", now=5)
    view, _ = after(record(1, 0.2), opened(2), view=view)
    assert refusal(view, "dan", now=65) is InvalidReason.NO_SLOT
    view, slots = sent(view, "dan", "", now=65.5)
    assert slots == ["http-001", "http-002"]  # bob's and cid's: ann came later
    assert view.bound.keys() == {"ann", "dan"}
    assert refusal(view, "bob", now=70) is InvalidReason.NO_SLOT
    assert sent(view, "bob", now=70.5)[1] == ["http-000"]


def test_a_slot_stays_with_a_client_that_nobody_displaces():
    """An hour's silence costs nothing where nobody else needs the slot, or a slot is nobody's."""
    view, _ = sent(collecting(), "ann")
    view, _ = after(record(1, 0.2), opened(2), view=view)
    view, slots = sent(view, "", "dan", "ann", now=3600)
    assert slots == ["http-001", "http-002", "http-000"]


def test_a_slot_that_has_answered_is_not_given_away():
    """Its update is in the round already: whoever comes next waits for the next round."""
    view, _ = sent(collecting(), "ann", "bob", "cid")
    assert refusal(view, "dan", now=1000) is InvalidReason.NO_SLOT


def test_without_a_version_an_update_is_for_the_round_that_is_open():
    """Whoever posts a bare state dict says no version, and is taken at his word."""
    view, _ = after(MANIFEST, Model(4, ZEROS), opened(9, version=4))
    update = post(view, posted(version=None), 0.0)[1]
    assert (update.round, update.version) == (9, 4)


def test_a_refused_post_binds_no_name():
    """Whoever posts from another version gets no slot for it."""
    view = collecting(version=0)
    assert refusal(view, "ann", version=3) is Reason.WRONG_VERSION
    assert not view.bound


def test_only_the_called_answer():
    """Where a share is called, a name whose slot is not called hears so; others get one that is."""
    view, _ = sent(collecting(), "ann")
    view, _ = after(record(1, 0.2), opened(2, called=("http-001", "agent-7")), view=view)
    assert refusal(view, "ann") is Reason.NOT_SELECTED
    view, slots = sent(view, "")
    assert slots == ["http-001"]
    assert refusal(view) is InvalidReason.NO_SLOT


def test_slots_are_called_by_number():
    """All agents but one are called so: a name with its slot hears that it is not."""
    view, _ = sent(collecting(), "ann")
    call = Call("00" * 32, WHOLE, 9, ("http-000",))
    called = replace(opened(2, called=()), calls={"contributors": call})
    view, _ = after(record(1, 0.2), called, view=view)
    assert refusal(view, "ann") is Reason.NOT_SELECTED
    view, slots = sent(view, "")
    assert slots == ["http-001"]


@pytest.mark.parametrize("phase", [one for one in Phase if one is not Phase.TRAIN])
def test_other_phases_take_no_updates(phase):
    """While votes are taken, with piggy-back, and at the end, nothing can be posted."""
    assert refusal(collecting(phase=phase)) is Reason.WRONG_PHASE
    assert phase in get_args(PhaseName)  # which clients are told


def test_nothing_is_taken_without_run_or_broker():
    """What is missing is named: the broker, the run, or a round that is open."""
    view = GatewayState(names_of("http", 3))
    assert refusal(view) is InvalidReason.NO_BROKER
    view = replace(view, connections=4)
    assert refusal(view) is InvalidReason.NO_RUN
    assert refusal(after(MANIFEST, Model(0, ZEROS))[0]) is Reason.WRONG_PHASE


def test_a_round_that_began_without_us_is_not_answered():
    """Agents who joined after a round was opened are not called in it, but in the next."""
    view, _ = after(MANIFEST, Model(4, ZEROS), opened(9, version=4), present=False)
    assert refusal(view, version=4) is Reason.NOT_SELECTED
    view, _ = after(opened(10, version=4), view=view)
    assert post(view, posted(version=4), 0.0)[1].agent == "http-000"


def test_a_new_attempt_gets_what_was_posted():
    """What was sent in a round is sent again when it is tried again, and never in another round."""
    view, _ = sent(collecting(), "ann", "")
    view, again = after(opened(1, attempt=2), view=view)
    assert [update.agent for update in again] == ["http-000", "http-001"]
    assert refusal(view, "ann") is Reason.DUPLICATE
    assert after(record(1, 0.2), opened(2), view=view)[1] == []


def test_an_aggregator_that_began_anew_gets_what_was_posted():
    """A manifest followed by the same round means that its collection is empty again."""
    view, _ = sent(collecting(), "ann")
    view, again = after(MANIFEST, Model(0, ZEROS), record(0, 0.1), opened(1), view=view)
    assert [update.agent for update in again] == ["http-000"]
    assert after(opened(1), view=view)[1] == []


def test_a_new_hub_shuts_nobody_out_of_the_round():
    """Who was there when the round began is called, whatever connection it speaks through now."""
    view, _ = sent(collecting(), "ann")
    again = (MANIFEST, Model(0, ZEROS), record(0, 0.1), opened(1))
    view, updates = after(*again, view=view, present=False)
    assert [update.agent for update in updates] == ["http-000"]
    assert sent(view, "bob")[1] == ["http-001"]
    view, _ = after(record(1, 0.2), opened(2), view=view, present=False)
    assert refusal(view, "cid") is Reason.NOT_SELECTED


@pytest.mark.parametrize("parameters", [8, 9])
def test_what_was_trained_from_another_run_s_model_is_not_sent_again(parameters):
    """Nor does it take up a slot: version 0 of a run that begins again may be another model."""
    view, _ = sent(collecting(), "ann")
    manifest = replace(MANIFEST, parameters=parameters, tensors=(("w", (parameters,)),))
    first = Model(0, np.ones(parameters, np.float32))
    view, again = after(manifest, first, record(0, 0.1), opened(1), view=view)
    assert again == []
    assert sent(view, "ann")[1] == ["http-000"]


def test_an_aggregator_that_began_anew_with_nan_gets_what_was_posted():
    """A model that overflowed is the same model, although NaN is not equal to itself."""
    nan = Model(0, np.full(8, np.nan, np.float32))
    view, _ = sent(after(MANIFEST, nan, record(0, 0.1), opened(1))[0], "ann")
    again = Model(0, nan.weights.copy())
    assert len(after(MANIFEST, again, record(0, 0.1), opened(1), view=view)[1]) == 1


# ---------------------------------------------------------------- history


def test_history_begins_before_any_round():
    """Entry 0 is the first model's accuracy, entry r that after round r."""
    view, _ = after(record(0, 0.1), record(1, 0.2), record(2, None), record(3, 0.4))
    assert view.history == (0.1, 0.2, None, 0.4)


def test_rounds_before_we_came_are_null():
    """A gateway that comes later knows nothing of what was."""
    assert after(record(3, 0.5), record(4, 0.6))[0].history == (None, None, None, 0.5, 0.6)


def test_a_run_that_begins_anew_forgets_the_last():
    """History, names, what was sent and what was refused belong to one run."""
    view, _ = sent(collecting(), "ann")
    view, _ = after(record(1, 0.3, invalid_messages={"duplicate": 2}), opened(2), view=view)
    assert view.invalid == {"duplicate": 2}
    view, _ = after(MANIFEST, Model(0, ZEROS), record(0, 0.1), view=view)
    assert (view.history, view.bound, view.sent, view.invalid) == ((0.1,), {}, {}, {})
    assert view.generation == 1


def test_a_record_that_comes_twice_counts_once():
    """After a lost connection the broker hands out the last record again."""
    view, _ = after(record(0, 0.1), *[record(1, 0.2, invalid_messages={"malformed": 3})] * 2)
    assert (view.history, view.invalid, view.generation) == ((0.1, 0.2), {"malformed": 3}, 0)


@pytest.mark.parametrize(
    "hostile",
    [
        RoundRecord(2**31 - 1, model=Quality(0.5)),
        RoundRepeated(1, 2, "too few"),
    ],
)
def test_a_record_of_no_round_that_can_be_changes_nothing(hostile):
    """Neither a round a thousand years on nor that one is tried again is in the history."""
    view = collecting()
    assert after(RoundLog(hostile), view=view)[0] == view


@pytest.mark.parametrize("odd", ["high", 1e300, [0.5], -0.5, None])
def test_an_accuracy_that_cannot_be_changes_nothing(odd):
    """Anybody may publish on a broker that lets everybody in: what cannot be is left out."""
    assert after(record(0, 0.1), record(1, odd))[0].history == (0.1,)


def test_a_run_on_numbers_has_rounds_and_metrics():
    """Its accuracy is null, its refusals count, and the first four metrics are those of now."""
    many = {f"m{n}": float(n) for n in range(9)}
    view, _ = after(
        record(0, None, metrics={"rmse": 2.0}),
        record(1, None, metrics={"rmse": 0.5}, invalid_messages={"duplicate": 2}),
    )
    assert (view.history, view.metrics) == ((None, None), {"rmse": 0.5})
    assert view.invalid == {"duplicate": 2}
    assert len(after(record(0, None, metrics=many))[0].metrics) == 4


def test_only_reasons_that_there_are_become_labels():
    """What a record says was refused is counted by our own names, or as other."""
    odd = {"not_finite": 2, "x" * 99: 1, "duplicate": -1, "malformed": "many"}
    view, _ = after(record(0, 0.1), record(1, 0.2, invalid_messages=odd))
    assert view.invalid == {"not_finite": 2, "other": 1}


@pytest.mark.parametrize(
    "manifest",
    [
        replace(MANIFEST, parameters=9),
        replace(MANIFEST, tensors=(("w", (4,)), ("w", (4,)))),
        replace(MANIFEST, tensors=(("w", (2**31 - 1, 2**31 - 1)),)),
    ],
)
def test_a_manifest_that_contradicts_itself_is_no_run(manifest):
    """Tensors of one name, or of another size than the model's: nothing can be posted."""
    view, _ = after(manifest, Model(0, ZEROS), opened(1))
    assert refusal(view) is InvalidReason.NO_RUN


# ---------------------------------------------------------------- models as JSON

floats = st.floats(width=32)


@given(st.lists(floats, min_size=8, max_size=8))
def test_models_come_back_as_they_were(values):
    """Every float32, infinities and NaN too, is the same after JSON, bit for bit but for NaN's."""
    vector = np.array(values, np.float32)
    text = tensors_json(vector, TENSORS)
    read = vector_of(strict_json(text), TENSORS)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, vector)
    assert np.array_equal(np.signbit(read), np.signbit(vector) & ~np.isnan(vector))


def test_a_million_floats_come_back_bit_by_bit():
    """The short decimals in which float32 is written lead back to the same float32."""
    bits = np.random.default_rng(0).integers(0, 2**32, 1_000_000, dtype=np.uint32)
    vector = bits.view(np.float32)
    vector = vector[np.isfinite(vector)]
    layout = [("all", (len(vector),))]
    read = vector_of(json.loads(tensors_json(vector, layout)), layout)
    assert np.array_equal(read.view(np.uint32), vector.view(np.uint32))


def test_what_is_not_finite_is_a_string():
    """JSON has no infinity: strings stand for it, in lists nested as the tensor is."""
    vector = np.array([1, math.inf, -math.inf, math.nan, 0, 2, 3, 4], np.float32)
    assert orjson.loads(tensors_json(vector, TENSORS)) == {
        "w": [[1.0, "Infinity", "-Infinity"], ["NaN", 0.0, 2.0]],
        "b": [3.0, 4.0],
    }


def test_what_float32_cannot_hold_is_infinite():
    """Numbers beyond float32, however written, arrive as infinities; whole numbers are numbers."""
    layout = [("a", (6,))]
    text = f'{{"a": [1e39, -1e39, 1e400, {"9" * 400}, -{"9" * 400}, 7]}}'.encode()
    assert vector_of(strict_json(text), layout).tolist() == [
        math.inf,
        -math.inf,
        math.inf,
        math.inf,
        -math.inf,
        7.0,
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "malformed"),
        ("{", "malformed"),
        ("nonsense", "malformed"),
        ("\x00", "malformed"),
        ("[" * 100_000, "malformed"),
        ('{"a":' * 100_000, "malformed"),
        ('{"version": ' + "9" * 5000 + "}", "malformed"),
        ('{"version": 0, "version": 1, "update": {}}', "malformed"),
        ('{"version": 0, "update": {"w": 1, "w": 2}}', "malformed"),
        ('{"version": 0, "update": {"b": [NaN, 0]}}', "malformed"),
        ('{"version": 0, "update": {"b": [Infinity, 0]}}', "malformed"),
        ("[]", "wrong_type"),
        ("null", "wrong_type"),
        ("3", "wrong_type"),
        ('"x"', "wrong_type"),
        ("{}", "missing_key"),
        ('{"version": 0}', "missing_key"),
        ('{"update": {}}', "missing_key"),
        ('{"version": 0, "update": {}, "more": 1}', "missing_key"),
        ('{"version": "0", "update": {}}', "wrong_type"),
        ('{"version": true, "update": {}}', "wrong_type"),
        ('{"version": 0.5, "update": {}}', "wrong_type"),
        ('{"version": 0, "update": []}', "wrong_type"),
        ('{"version": -1, "update": {}}', "out_of_range"),
        ('{"version": 1e400, "update": {}}', "wrong_type"),
        ('{"version": 99999999999999999999, "update": {}}', "out_of_range"),
        ('{"version": 0, "update": {}, "client": ""}', "out_of_range"),
        ('{"version": 0, "update": {}, "client": "a/b"}', "out_of_range"),
        ('{"version": 0, "update": {}, "client": "a\\n"}', "out_of_range"),
        ('{"version": 0, "update": {}, "client": "\\u00e9"}', "out_of_range"),
        ('{"version": 0, "update": {}, "client": "' + 65 * "a" + '"}', "out_of_range"),
        ('{"version": 0, "update": {}, "client": 7}', "wrong_type"),
        ('{"version": 0, "update": {}, "samples": -1}', "out_of_range"),
        ('{"version": 0, "update": {}}', "missing_key"),
        ('{"version": 0, "update": {"w": [[0,0,0],[0,0,0]], "\\ud800": [0,0]}}', "missing_key"),
    ],
    ids=lambda value: value[:50],
)
def test_a_body_that_is_no_update_is_refused(text, reason):
    """Each fault has its reason, and what is quoted of it is short and printable ASCII."""
    with pytest.raises(InvalidRequest) as raised:
        read_update(text.encode(), TENSORS, full=True)
    assert raised.value.reason == reason
    detail = raised.value.detail
    assert detail.isascii()
    assert detail.isprintable()
    assert len(detail) < 250


GOOD = [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("w", "b", "reason"),
    [
        (GOOD, [0], "wrong_length"),
        (GOOD, [], "wrong_length"),
        (GOOD, [0, 0, 0], "wrong_length"),
        (GOOD[:1], [0, 0], "wrong_length"),
        ([[0, 0], [0, 0, 0, 0]], [0, 0], "wrong_length"),
        (GOOD, 0, "wrong_type"),
        (GOOD, None, "wrong_type"),
        (GOOD, {"0": 0}, "wrong_type"),
        ([0, 0], [0, 0], "wrong_type"),
        (GOOD, [[0], [0]], "wrong_type"),
        (GOOD, [0, None], "wrong_type"),
        (GOOD, [0, True], "wrong_type"),
        (GOOD, [0, "1"], "wrong_type"),
        (GOOD, [0, "inf"], "wrong_type"),
        (GOOD, [0, "infinity"], "wrong_type"),
        (GOOD, [0, {}], "wrong_type"),
    ],
)
def test_a_tensor_of_another_shape_is_refused(w, b, reason):
    """Every list is as long as the shape says, and holds numbers or the three strings."""
    with pytest.raises(InvalidRequest) as raised:
        vector_of({"w": w, "b": b}, TENSORS)
    assert raised.value.reason == reason


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["version", "update", "client", "samples", "w", "b"]), inner
            )
        ),
        max_leaves=20,
    )
)
def test_any_json_is_read_or_refused(content):
    """Whatever JSON comes, it is an update or is refused: nothing else is ever raised."""
    for full in (True, False):
        with contextlib.suppress(InvalidRequest):
            read_update(json.dumps(content).encode(), TENSORS, full=full)
