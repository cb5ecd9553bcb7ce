"""A real Redis or Valkey that a test may kill, freeze and start again on the same port."""

import os
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from .downloads import find_redis
from .plain_opa import free_port
from .waiting import PATIENCE

GIVEN = "LICTOR_TEST_REDIS_URL"


class RedisServer:
    """One server. It keeps its data in memory."""

    def __init__(self, url=None, *, folder=None):
        self._ours = url is None
        self._folder = folder
        self._port = free_port() if self._ours else None
        self.url = url or f"redis://127.0.0.1:{self._port}/0"
        self._process = None

    def start(self):
        if self._ours:
            self._process = subprocess.Popen(
                [
                    find_redis(), "--port", str(self._port), "--bind", "127.0.0.1",
                    "--save", "", "--appendonly", "no", "--dir", self._folder,
                ],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        latest = time.monotonic() + PATIENCE
        while not self._answers():
            assert time.monotonic() < latest, "Redis does not answer"
            time.sleep(0.01)
        return self

    def client(self):
        """A plain client, for a test's own reads and forgeries."""
        return redis.Redis.from_url(self.url, socket_timeout=5)

    def kill(self):
        """Kill it; all that it knew is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self):
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self._process.send_signal(signal.SIGCONT)

    def must_be_ours(self):
        """Skip a test that would kill or freeze a server that is not ours."""
        if not self._ours:
            pytest.skip(f"the server of {GIVEN} is not ours to kill")

    def _answers(self):
        assert self._process is None or self._process.poll() is None, "Redis has ended"
        try:
            with self.client() as client:
                return client.ping()
        except redis.RedisError:
            return False


@contextmanager
def redis_server():
    """The server that `LICTOR_TEST_REDIS_URL` names, else one of our own."""
    with tempfile.TemporaryDirectory(prefix="lt-", dir="/tmp") as folder:
        server = RedisServer(os.environ.get(GIVEN), folder=Path(folder))
        try:
            yield server.start()
        finally:
            server.kill()
