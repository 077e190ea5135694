"""The gateway against its own OpenAPI document: schemathesis looks for what that does not say."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from support.federation import one_thread  # noqa: F401 - a fixture
from support.gateway import Gateway

pytestmark = pytest.mark.usefixtures("one_thread")

CALLS = [
    ("GET", "/model/"),
    ("POST", "/model/"),
    ("GET", "/model/accuracy"),
    ("GET", "/healthz"),
    ("GET", "/metrics"),
]


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    """Start a run of many rounds, and read the document of its gateway."""
    made = Gateway(tmp_path_factory.mktemp("schema"), run__rounds=10**6).begin()
    yield schemathesis.openapi.from_asgi("/openapi.json", made.app)
    made.close()


def test_all_that_is_documented_is_tried(document):
    """Every operation of the document is in the list."""
    found = [each.ok() for each in document.get_all_operations()]
    assert sorted((each.method.upper(), each.path) for each in found) == sorted(CALLS)


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [(*call, GenerationMode.POSITIVE) for call in CALLS]
    # The others take nothing to be wrong.
    + [(method, "/model/", GenerationMode.NEGATIVE) for method in ("GET", "POST")],
)
def test_nothing_undocumented_ever_comes_back(document, method, path, mode):
    """No 5xx, no status, type or shape of an answer but what is documented.

    The document does not know the names and shapes of a run's tensors, so that what it allows may
    still be refused, as it says.
    """
    operation = document[path][method]

    @given(operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=40,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def tried(case):
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    tried()
