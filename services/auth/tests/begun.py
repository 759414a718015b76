"""A session that has just begun."""

from collections.abc import Iterable

from auth.refresh import RefreshToken, RefreshTokens


async def begun(tokens: RefreshTokens, subject: str, client_id: str, scopes: Iterable[str] = ()) -> RefreshToken:
    draft = tokens.draft(subject, client_id, scopes)
    await tokens.keep(draft)
    return draft
