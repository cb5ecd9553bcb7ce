"""Neo4j servers: one that the environment names, one in Docker, one of our own in Java."""

import re
import shutil
import socket
import subprocess
import time
import uuid

import pytest
from neo4j import GraphDatabase
from neo4j.exceptions import DriverError, Neo4jError

_PATIENCE = 120
"""Seconds until a server must answer; a busy machine takes ten."""

_FAST = ("-XX:+UseParallelGC",)
_SOON = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")  # starts in two thirds of the time


class NotStartedError(Exception):
    """A server that should start does not; the message has the end of its log."""


class GivenServer:
    """A server that the environment names: neither started nor stopped here."""

    def __init__(self, url):
        self.url = url

    def start(self):
        _wait(self.url, lambda: None)

    def must_be_ours(self):
        """Skip a test that would kill a server that is not ours."""
        pytest.skip("the Neo4j of LICTOR_TEST_NEO4J_URL is not ours to kill")

    def stop(self):
        """Nothing: it is not ours."""

    end = stop


class OurServer:
    """One that a test may kill."""

    def must_be_ours(self):
        """It is."""


class JavaServer(OurServer):
    """A process of our own; when this one ends, however it ends, so does that."""

    def __init__(self, jars, heap, folder):
        self._folder = folder
        self._port = _free_port()
        self.url = f"bolt://127.0.0.1:{self._port}"
        self._log = folder / "server.log"
        size = _mebibytes(heap)
        self._command = [
            "java", f"-Xmx{heap}", *(_FAST if size >= 1024 else _SOON), "-cp", f"{jars}/*:{jars}",
            "Main", str(folder), str(self._port), str(size),
        ]  # fmt: skip
        self._process = None

    @property
    def pid(self):
        return self._process.pid

    def start(self):
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        _wait(self.url, self._fault)

    def kill(self):
        """As `kill -9`."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()

    def stop(self):
        """As it should be stopped: what is in its folder can be used again."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.wait()
        self._process.stdin.close()

    def end(self):
        """Quickly: its folder goes as well."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _fault(self):
        if self._process.poll() is None:
            return None
        return f"java ended: {self._log.read_text(errors='replace')[-2000:]}"


class DockerServer(OurServer):
    """A container on the host's network, so that it also works where Docker has no bridge."""

    def __init__(self, image, heap, folder):
        self._name = f"lictor-neo4j-{uuid.uuid4().hex[:12]}"
        port = _free_port()
        self.url = f"bolt://127.0.0.1:{port}"
        settings = {
            "NEO4J_AUTH": "none",
            "NEO4J_server_bolt_listen__address": f"127.0.0.1:{port}",
            "NEO4J_server_http_enabled": "false",
            "NEO4J_server_memory_heap_max__size": heap,
            "NEO4J_server_memory_pagecache_size": heap,
        }
        environment = [f"--env={name}={value}" for name, value in settings.items()]
        self._create = [
            "docker", "create", f"--name={self._name}", "--network=host", f"--volume={folder}:/data",
            *environment, image,
        ]  # fmt: skip
        self._created = False

    def start(self):
        if not self._created:
            subprocess.run(self._create, check=True, capture_output=True)
            self._created = True
        subprocess.run(["docker", "start", self._name], check=True, capture_output=True)
        _wait(self.url, lambda: None)

    def kill(self):
        """As `kill -9`."""
        subprocess.run(["docker", "kill", self._name], check=True, capture_output=True)

    def stop(self):
        """Stop it and remove the container; its folder stays."""
        if self._created:
            subprocess.run(["docker", "rm", "--force", self._name], check=True, capture_output=True)

    end = stop


def docker_image(tried):
    """An image of Neo4j 5 that is on this machine, or None: `tried` gets to know why."""
    if shutil.which("docker") is None:
        tried.append("Docker is not installed")
        return None
    listed = subprocess.run(
        ["docker", "image", "ls", "--format={{.Repository}}:{{.Tag}}", "neo4j"],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    if listed.returncode:
        tried.append("no Docker daemon answers")
        return None
    images = [line for line in listed.stdout.split() if re.match(r"neo4j:5\b", line)]
    if not images:
        tried.append("Docker has no image neo4j:5")
    return max(images, default=None)


def _wait(url, fault):
    """Wait until a server answers a query.

    Raises:
        NotStartedError: it does not, or `fault` tells why it never will.
    """
    latest = time.monotonic() + _PATIENCE
    while True:
        try:
            with GraphDatabase.driver(url, connection_timeout=5, connection_acquisition_timeout=5,
                                      max_transaction_retry_time=0) as driver:  # fmt: skip
                driver.execute_query("RETURN 1")
        except (DriverError, Neo4jError) as error:
            if why := fault():
                raise NotStartedError(why) from error
            if time.monotonic() > latest:
                raise NotStartedError(f"{url} does not answer: {error}") from error
            time.sleep(0.1)
        else:
            return


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def _mebibytes(size):
    number, unit = int(size[:-1]), size[-1].lower()
    return number * {"m": 1, "g": 1024}[unit]
