"""The conformance matrix over each interceptor alone on a plain server, and over the whole chain in both its forms."""

import pytest
from structlog.testing import capture_logs

from grpc_common.conformance import plugin
from subjects import ALONE, WHOLE, subject_of

pytest_plugins = [plugin.__name__]


@pytest.fixture(scope="module", params=[*WHOLE, *ALONE])
def conformance_subject(request):
    with capture_logs() as entries:
        yield subject_of(request.param, entries)


def test_the_interceptors_conform(conformance):
    conformance()
