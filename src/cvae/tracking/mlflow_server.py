"""MLflow's scoring server for one model, and it takes CSV too: MLflow's own refuses CSV where a column holds images.

Run as a file, without an import from here, so that the `cvae` that the model imports is the one that it carries.
"""

import argparse
import io
import json

import pandas as pd
import uvicorn
from mlflow.pyfunc import scoring_server


class CSVAsJSON:
    """ASGI middleware that hands a table in CSV on as the same table in MLflow's JSON."""

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
            table = pd.read_csv(io.BytesIO(content), encoding="utf-8-sig", skipinitialspace=True, index_col=False)
        except ValueError as error:  # pandas' own errors and UnicodeDecodeError are among these
            told = f"not a table in CSV ({error}); its first line must name the columns: digit, and z_0 … if you like"
            return await refuse(send, told)
        split = table.to_json(orient="split", index=False, double_precision=15)
        content = f'{{"dataframe_split": {split}}}'.encode()
        headers = [pair for pair in scope["headers"] if pair[0] not in (b"content-type", b"content-length")]
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]

        async def replay():
            return {"type": "http.request", "body": content, "more_body": False}

        return await self.app(scope | {"headers": headers}, replay, send)


async def refuse(send, told: str) -> None:
    """Answer with status 400 and MLflow's form of an error."""
    content = json.dumps({"error_code": "BAD_REQUEST", "message": told}).encode()
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
