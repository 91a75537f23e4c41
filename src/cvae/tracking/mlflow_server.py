"""Run MLflow's scoring server for one model. Accept CSV too, which MLflow refuses if a column may hold images.

Run this as a file. It imports nothing from this project, so that the model imports the `cvae` that it carries.
"""

import argparse
import io
import json

import pandas as pd
import uvicorn
from mlflow.pyfunc import scoring_server


class CSVAsJSON:
    """ASGI middleware that converts a table in CSV to MLflow's JSON."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        kind = dict(scope.get("headers", [])).get(b"content-type", b"")
        if scope["type"] != "http" or kind.partition(b";")[0].strip().lower() != b"text/csv":
            return await self.app(scope, receive, send)
        content, more = b"", True
        while more:
            message = await receive()
            content, more = content + message.get("body", b""), message.get("more_body", False)
        try:
            # Labels stay as they are: a class may be called 007, NA or True.
            table = pd.read_csv(
                io.BytesIO(content),
                encoding="utf-8-sig",
                skipinitialspace=True,
                index_col=False,
                converters={"label": str.strip},
            )
        except ValueError as error:  # includes pandas' errors and UnicodeDecodeError
            reason = (
                f"not a table in CSV ({error}); the first line must name the columns: label, and perhaps z_0, z_1, …"
            )
            return await refuse(send, reason)
        split = table.to_json(orient="split", index=False, double_precision=15)
        content = f'{{"dataframe_split": {split}}}'.encode()
        headers = [pair for pair in scope["headers"] if pair[0] not in (b"content-type", b"content-length")]
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]

        async def replay():
            return {"type": "http.request", "body": content, "more_body": False}

        return await self.app(scope | {"headers": headers}, replay, send)


async def refuse(send, reason: str) -> None:
    """Answer with status 400 and an error in MLflow's format."""
    content = json.dumps({"error_code": "BAD_REQUEST", "message": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-uri", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    app = scoring_server.init(scoring_server.load_model(options.model_uri))
    app.add_middleware(CSVAsJSON)
    uvicorn.run(app, host=options.host, port=options.port)


if __name__ == "__main__":
    main()
