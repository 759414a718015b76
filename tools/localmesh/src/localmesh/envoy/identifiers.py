"""The names by which people find an answer in logs and traces, on every answer."""

from localmesh.envoy.config import Config, extension

CORRELATION, TRACE = "x-correlation-id", "x-trace-id"


def identifiers() -> Config:
    """The correlation id and the trace id, whoever answers; the connection manager adds the request's own id.

    The trace id goes through the request, for what Envoy answers itself cannot see it elsewhere.
    """
    message = "filters.http.header_mutation.v3.HeaderMutation"
    told = [_set(CORRELATION, f"%REQ({CORRELATION})%"), _set(TRACE, f"%REQ({TRACE})%")]
    mutations = {"request_mutations": [_set(TRACE, "%TRACE_ID%")], "response_mutations": told}
    return extension("envoy.filters.http.header_mutation", message, mutations=mutations)


def _set(key: str, value: str) -> Config:
    return {"append": {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
