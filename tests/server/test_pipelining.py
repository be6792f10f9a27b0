from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from tests.server.test_http import BODY, inside


async def test_a_head_cut_in_two_behind_another_request_is_never_taken_for_one_of_its_own(
    model_dirs: Callable[[str], Path],
) -> None:
    head = b"POST /v2/models/fraud/infer HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(BODY)
    first = b"GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n"
    async with inside(model_dirs("identity") / "model.onnx") as (server, port):
        for start in (first + head[:20], first + head[:-4], b"\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(start)
            await asyncio.sleep(0.05)
            writer.write(
                (first + head).removeprefix(start) + BODY if start.startswith(first) else head + BODY
            )
            answer = b""
            while b'"outputs"' not in answer:
                answer += await asyncio.wait_for(reader.read(65536), 5)
            writer.close()
        assert all(text.startswith(b"POST ") for text in server.heads)
