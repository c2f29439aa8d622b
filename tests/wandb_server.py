"""As much of a W&B server, on this machine, as its client needs to send a run; it refuses what a
test asks it to refuse.
"""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "0" * 40
USER = {
    "id": "u",
    "name": "me",
    "username": "me",
    "email": "me@example.com",
    "admin": False,
    "flags": "{}",
    "entity": "me",
    "deletedAt": None,
    "apiKeys": {"edges": []},
    "teams": {"edges": []},
}
BUCKET = {
    "id": "r",
    "displayName": None,
    "description": None,
    "config": "{}",
    "sweepName": None,
    "historyLineCount": 0,
    "project": {"id": "p", "name": "unrelearn", "entity": {"id": "e", "name": "me"}},
}


class Server(ThreadingHTTPServer):
    """refuse: (part of the id of a run, "upsert" or "stream", HTTP status) of each request to turn
    down.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.refuse: list[tuple[str, str, int]] = []
        self.queries: list[tuple[str, dict]] = []  # name and variables of each GraphQL query
        self.rows: dict[str, list[dict]] = {}  # id of a run -> its history
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def environment(self) -> dict:
        return {
            "WANDB_BASE_URL": f"http://127.0.0.1:{self.server_address[1]}",
            "WANDB_API_KEY": KEY,
            "WANDB_MODE": "online",
        }

    def status(self, run: str, request: str) -> int:
        return next(
            (status for part, kind, status in self.refuse if part in run and kind == request), 200
        )


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments) -> None:
        pass

    def answer(self, body: dict, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self) -> bytes:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

    def do_PUT(self) -> None:
        self.body()
        self.answer({})

    def do_POST(self) -> None:
        data = self.body()
        if self.path == "/graphql":
            self.graphql(json.loads(data))
        elif self.path.endswith("/file_stream"):
            run = self.path.split("/")[-2]
            status = self.server.status(run, "stream")
            lines = (
                json.loads(data).get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
            )
            if status == 200:
                self.server.rows.setdefault(run, []).extend(map(json.loads, lines))
            self.answer({} if status == 200 else {"error": "storage quota exceeded"}, status)
        else:  # telemetry
            self.answer({}, 404)

    def graphql(self, query: dict) -> None:
        name = query.get("operationName") or query["query"].split("{")[0].split("(")[0].split()[-1]
        variables = query.get("variables") or {}
        self.server.queries.append((name, variables))
        if name == "UpsertBucket":
            status = self.server.status(variables["name"], "upsert")
            bucket = {
                **BUCKET,
                "name": variables["name"],
                "displayName": variables.get("displayName"),
            }
            self.answer(
                (
                    {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
                    if status == 200
                    else {"errors": [{"message": "storage quota exceeded"}]}
                ),
                status,
            )
        elif name == "CreateRunFiles":
            files = [
                {"name": file, "uploadUrl": f"http://{self.headers['Host']}/{file}"}
                for file in variables["files"]
            ]
            self.answer(
                {"data": {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}}
            )
        else:
            self.answer(
                {
                    "data": (
                        {
                            "Viewer": {"viewer": USER},
                            "GetViewer": {"viewer": USER},
                            "RunResumeStatus": {"model": None},
                            "UpsertView2": {
                                "upsertView": {
                                    "view": {
                                        "id": "v",
                                        "name": "unrelearn",
                                        "displayName": "Unrelearn",
                                    },
                                    "inserted": True,
                                }
                            },
                        }.get(name, {})
                    )
                }
            )
