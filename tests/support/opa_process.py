"""A real OPA that fetches bundles, as `lictor opa` starts it."""

import os
import subprocess
from dataclasses import dataclass

from bundles.fleet.credentials import InstanceCredentials
from bundles.opa.server import OPASettings, command, environment, prepare


@dataclass
class OPAProcess:
    """An OPA that a test may kill and start again."""

    binary: object
    settings: OPASettings
    process: subprocess.Popen | None = None

    def start(self):
        prepare(self.settings)
        self._run()

    def _run(self):
        log = (self.settings.folder / "opa.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                command(self.binary, self.settings),
                env=environment(os.environ),
                stdout=log,
                stderr=log,
            )

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @property
    def log(self):
        return (self.settings.folder / "opa.log").read_text()


def opa_settings(settings, id_="opa-1", *, bundles_url, bundles, address=None):
    """What an OPA of a state directory is started with; by default it listens on a socket in its folder."""
    folder = settings.state / ("opa" if id_ == "opa-1" else id_)
    return OPASettings(
        id=id_,
        folder=folder,
        address=address or f"unix://{folder / 'opa.sock'}",
        bundles_url=bundles_url,
        bundles_bearer=InstanceCredentials.load(settings.instances_key).bearer(id_),
        policy_key=(settings.bundle_keys / "policy.pub.pem").read_text(),
        data_key=(settings.bundle_keys / "data.pub.pem").read_text(),
        bundles=bundles,
    )
