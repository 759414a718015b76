"""Urls of a Valkey, as settings have them."""

import pytest
from pydantic import TypeAdapter, ValidationError

from grpc_common.valkey_url import ValkeyURL

URLS = TypeAdapter(ValkeyURL)


@pytest.mark.parametrize(
    "url", ["", "redis://cache:6379", "rediss://items:hunter2@[::1]:6379/1", "unix:///run/valkey?db=1", "redis://h"]
)
def test_these_are_taken_as_they_are(url: str) -> None:
    assert URLS.validate_python(url).get_secret_value() == url


@pytest.mark.parametrize(
    "url",
    [
        "cache:6379",
        "http://hunter2@cache",
        "redis://items:hunter2/cd@cache:1",
        "redis://i:hunter2#d@c",
        "redis://[hunter2",
    ],
)
def test_others_are_refused_without_a_word_of_the_password(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        URLS.validate_python(url)
    assert "hunter" not in str(refused.value.errors(include_input=False, include_context=False))
    assert refused.value.__cause__ is None
