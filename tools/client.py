"""A small client for ComfyUI's HTTP and websocket interface: queue a prompt, follow it, fetch its files."""

import asyncio
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp


class HostError(Exception):
    """ComfyUI did not start, rejected a prompt, or failed while running one. The message says which and why."""


class PromptRefused(HostError):
    """ComfyUI rejected a prompt. `errors` is its response: `error`, and `node_errors` by node id."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.errors = answer
        lines = [describe(answer.get("error", {}))]
        for node, found in answer.get("node_errors", {}).items():
            lines += [f"node {node} ({found['class_type']}): {describe(error)}" for error in found["errors"]]
        super().__init__("\n".join(lines))


class NodeFailed(HostError):
    """A node raised an exception. `node` is its id, `kind` the exception's class, and `message` its text."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.node: str = data["node_id"]
        self.kind: str = data["exception_type"]
        self.message: str = data["exception_message"].strip()
        super().__init__(f"node {self.node} ({data['node_type']}): {self.kind}: {self.message}")


class Interrupted(HostError):
    """The prompt was stopped by an interrupt."""


def describe(error: dict[str, Any]) -> str:
    """One of ComfyUI's error records as a single line."""
    return f"{error.get('message', '')}: {error.get('details', '')}".strip(": ")


@dataclass
class Result:
    """The results of a prompt: the outputs of its nodes by id, and the seconds that each node took."""

    prompt_id: str
    outputs: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)


OnEvent = Callable[[str, dict[str, Any]], None]
OnPreview = Callable[[bytes], None]

PREVIEW_HEADER = 8
"""The bytes before the image in ComfyUI's message of a preview."""


class Client:
    """Talks to the server at `address`, as the web page does."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.client_id = uuid.uuid4().hex

    def get(self, path: str) -> Any:
        """Send GET `path`. Returns the JSON of the response."""
        return json.loads(self.get_bytes(path))

    def get_bytes(self, path: str) -> bytes:
        """Send GET `path`. Returns the bytes of the response. Raises urllib.error.HTTPError."""
        with urllib.request.urlopen(self.address + path, timeout=60) as answer:
            return bytes(answer.read())

    def post(self, path: str, data: dict[str, Any]) -> Any:
        """POST `data` as JSON. Returns the JSON of the response, None if it is empty. Raises urllib.error.HTTPError."""
        request = urllib.request.Request(self.address + path, json.dumps(data).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def queue(self, prompt: dict[str, Any], preview_method: str = "default") -> str:
        """Queue an API-format prompt and return its id. Raises PromptRefused."""
        try:
            answer = self.post("/prompt", {"prompt": prompt, "client_id": self.client_id,
                                           "extra_data": {"preview_method": preview_method}})
        except urllib.error.HTTPError as error:
            raise PromptRefused(json.loads(error.read())) from None
        return str(answer["prompt_id"])

    def interrupt(self) -> None:
        """Stop the prompt that is running."""
        self.post("/interrupt", {})

    def run(self, prompt: dict[str, Any], on_event: OnEvent = lambda kind, data: None,
            on_preview: OnPreview | None = None) -> Result:
        """Queue `prompt` and follow it to its end.

        `on_event(kind, data)` is called for each of ComfyUI's messages about this prompt (executing, progress,
        executed, ...), and `on_preview` with the JPEG of each preview. Raises PromptRefused, NodeFailed, Interrupted.
        """
        return asyncio.run(self._run(prompt, on_event, on_preview))

    async def _run(self, prompt: dict[str, Any], on_event: OnEvent, on_preview: OnPreview | None) -> Result:
        url = f"{self.address}/ws?clientId={self.client_id}"
        async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket:
            prompt_id = await asyncio.to_thread(self.queue, prompt, "latent2rgb" if on_preview else "default")
            clock = NodeClock()
            async for message in socket:
                if message.type == aiohttp.WSMsgType.BINARY and on_preview:
                    on_preview(message.data[PREVIEW_HEADER:])
                if message.type != aiohttp.WSMsgType.TEXT:
                    continue
                event = json.loads(message.data)
                kind, data = event["type"], event["data"]
                if data.get("prompt_id") != prompt_id:
                    continue
                clock.see(kind, data)
                on_event(kind, data)
                if kind == "execution_error":
                    raise NodeFailed(data)
                if kind == "execution_interrupted":
                    raise Interrupted(f"The prompt was interrupted at node {data.get('node_id')}.")
                if kind == "executing" and data["node"] is None:
                    history = await asyncio.to_thread(self.get, f"/history/{prompt_id}")
                    return Result(prompt_id, history[prompt_id]["outputs"], clock.seconds)
        raise HostError("The server closed the connection while the prompt was running. See its log.")

    def download(self, file: dict[str, str]) -> bytes:
        """The bytes of a file listed by an output node, with `filename`, `subfolder` and `type`."""
        return self.get_bytes("/view?" + urllib.parse.urlencode(file))


class NodeClock:
    """Measures how long each node runs, from ComfyUI's messages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._node: str | None = None
        self._since = 0.0

    def see(self, kind: str, data: dict[str, Any]) -> None:
        """Process one message."""
        if kind != "executing":
            return
        now = time.monotonic()
        if self._node is not None:
            self.seconds[self._node] = self.seconds.get(self._node, 0.0) + now - self._since
        self._node, self._since = data["node"], now
