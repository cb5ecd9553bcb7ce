"""A real S3 server on this machine, over a folder: versitygw, which knows conditional writes."""

import os
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from .downloads import DownloadUnavailableError, find_s3
from .plain_opa import free_port
from .waiting import PATIENCE

BUCKET = "artefacts"


@contextmanager
def s3_server():
    """The `AWS_*` variables under which obstore finds a bucket `artefacts`."""
    # Where files have extended attributes, which versitygw keeps ETags in; /tmp may not.
    with tempfile.TemporaryDirectory(prefix="lt-") as folder:
        (Path(folder) / BUCKET).mkdir()
        try:
            os.setxattr(folder, "user.lictor", b"1")
        except OSError:
            raise DownloadUnavailableError(
                f"no S3 server: {folder} has no extended attributes"
            ) from None
        port, secret = free_port(), "not-a-secret-1"
        process = subprocess.Popen(
            [find_s3(), "--port", f"127.0.0.1:{port}", "--quiet", "posix", folder],
            env={**os.environ, "ROOT_ACCESS_KEY": "tests", "ROOT_SECRET_KEY": secret},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(url, process)
            yield {
                "AWS_ENDPOINT_URL": url,
                "AWS_ALLOW_HTTP": "true",
                "AWS_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "tests",
                "AWS_SECRET_ACCESS_KEY": secret,
            }
        finally:
            process.kill()
            process.wait()


def _wait_for(url, process):
    latest = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, "versitygw has ended"
        assert time.monotonic() < latest, "versitygw does not answer"
        with suppress(URLError):
            try:
                urlopen(url, timeout=1).close()
            except HTTPError:
                return  # it asks for a signature: it answers
        time.sleep(0.01)
