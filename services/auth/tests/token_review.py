"""The one call of the API of Kubernetes by which OpenBao asks whose token it was given."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager


@asynccontextmanager
async def token_reviews(accounts: Mapping[str, tuple[str, str]]) -> AsyncIterator[str]:
    """Serve TokenReview (authentication.k8s.io/v1) for tokens of the service accounts (namespace, name), and give its
    URL.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(int(line[15:]) for line in head.lower().splitlines() if line.startswith("content-length:"))
        review = json.loads(await reader.readexactly(length))
        assert head.startswith("POST /apis/authentication.k8s.io/v1/tokenreviews ")
        account = accounts.get(review["spec"]["token"])
        if account is None:
            review["status"] = {"authenticated": False, "error": "invalid bearer token"}
        else:
            name = f"system:serviceaccount:{account[0]}:{account[1]}"
            user = {"username": name, "uid": f"uid-of-{account[1]}"}
            review["status"] = {"authenticated": True, "user": user, "audiences": review["spec"]["audiences"]}
        body = json.dumps(review).encode()
        lines = ["HTTP/1.1 201 Created", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
