"""Real `lictor` processes over a state directory, as an operator runs them."""

import json
import os
import signal
import subprocess
import sys
import time

from .plain_opa import free_port

LICTOR = [sys.executable, "-m", "lictor"]


class LictorProcesses:
    """Commands, and `lictor serve` and `lictor opa` as long as they run.

    Args:
        settings: of the state directory; its parent folder takes the logs.
        opa_binary: the OPA that `lictor opa` runs.
    """

    def __init__(self, settings, opa_binary):
        self.state = settings.state
        self.folder = settings.state.parent
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("LICTOR_")},
            "LICTOR_STATE": str(self.state),
            "LICTOR_BUNDLES_URL": f"http://127.0.0.1:{free_port()}",
            "LICTOR_OPA_BIN": str(opa_binary.path),
            **{
                f"LICTOR_{name.upper()}": str(getattr(settings, name))
                for name in ("registry", "redis_url", "artefacts_url")
                if name in settings.model_fields_set
            },
        }
        self.running = {}

    def run(self, *arguments, stdin=None):
        return subprocess.run(
            [*LICTOR, *arguments],
            env=self.env, input=stdin, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def json(self, *arguments, **kwargs):
        done = self.run(*arguments, "--format=json", **kwargs)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def decide(self, bearer, tool="search"):
        done = self.run("decide", f"--tool={tool}", "--format=json", stdin=bearer)
        return done.returncode, json.loads(done.stdout)

    def start(self, name, **environment):
        """Start `lictor serve`, `lictor opa`, or another OPA (`opa-2`, …) with a folder of its own."""
        command, _, number = name.partition("-")
        env, flags = {**self.env, **environment}, []
        if number:
            folder = self.folder / "state" / name
            env["LICTOR_OPA_URL"] = f"unix://{folder / 'opa.sock'}"
            env["LICTOR_OPA_TOKEN_FILE"] = str(folder / "client.token")
            flags = [f"--id={name}"]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*LICTOR, command, *flags],
                env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def begin(self, *arguments):
        """Start a command, and do not wait for its end."""
        return subprocess.Popen(
            [*LICTOR, *arguments],
            env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def stop_all(self):
        """End what still runs: OPAs at once, `lictor` as a supervisor does, so that its coverage is saved."""
        for name, process in self.running.items():
            process.send_signal(signal.SIGKILL if name.startswith("opa") else signal.SIGTERM)
            process.send_signal(signal.SIGCONT)
        for process in self.running.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running.clear()

    def stop(self, name, how=signal.SIGTERM):
        process = self.running.pop(name)
        process.send_signal(how)
        return process.wait(timeout=20)

    def until(self, condition, what):
        latest = time.monotonic() + 30
        while not condition():
            logs = "\n".join(p.read_text() for p in self.folder.glob("*.log"))
            assert time.monotonic() < latest, f"not in 30 s: {what}\n{logs}"
            time.sleep(0.05)
