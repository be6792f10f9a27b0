"""A client that asks a model again and again, in a pod of the server image; it prints a tally a second."""

from __future__ import annotations

import json
import os
import time

import httpx

URL, BODY = os.environ["URL"], json.loads(os.environ["BODY"])
EXPECTED = json.loads(os.environ["EXPECTED"])
PAUSE = 0.2


def main() -> None:
    right, told = 0, 0.0
    wrong: list[str] = []
    while True:
        try:
            # A connection for each request, so that each goes through the Service anew.
            answer = httpx.post(URL, json=BODY, timeout=10)
            data = answer.json()["outputs"][0]["data"] if answer.status_code == 200 else None
        except (httpx.HTTPError, ValueError) as error:
            wrong.append(f"{type(error).__name__}: {error}")
        else:
            if data == EXPECTED:
                right += 1
            else:
                wrong.append(f"HTTP {answer.status_code}: {answer.text[:200]}")
        if time.monotonic() > told + 1:
            print(json.dumps({"right": right, "wrong": len(wrong), "last": wrong[-3:]}), flush=True)
            told = time.monotonic()
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
