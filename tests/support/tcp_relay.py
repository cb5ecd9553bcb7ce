"""A TCP relay in front of a server, which a test may kill, freeze, and have cut long responses."""

import contextlib
import socket
import threading
from urllib.parse import urlsplit


class TCPRelay:
    """Passes bytes on, both ways, on threads of its own; it keeps its port when it starts again.

    Attributes:
        url: the server's, by way of the relay.
        cut_after: seconds without a byte of response after which it closes a connection, as a proxy does; or None.
        cuts: how often it did.
    """

    def __init__(self, url, *, cut_after=None):
        parts = urlsplit(url)
        self._to = (parts.hostname, parts.port)
        self._port = 0
        self._parts = parts
        self._listener = None
        self._open, self._lock = set(), threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self.cut_after = cut_after
        self.cuts = 0

    @property
    def url(self):
        return self._parts._replace(netloc=f"127.0.0.1:{self._port}").geturl()

    def must_be_ours(self):
        """It is."""

    def start(self):
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        self._flowing.set()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def kill(self):
        """Close it, and every connection."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self._flowing.set()
        with self._lock:
            still_open = list(self._open)
        for one in still_open:
            self._close(one)

    def freeze(self):
        """Pass nothing on; connections stay open."""
        self._flowing.clear()

    def thaw(self):
        self._flowing.set()

    def _accept(self, listener):
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return  # killed
            try:
                far = socket.create_connection(self._to)
            except OSError:
                self._close(near)
                continue
            with self._lock:
                self._open |= {near, far}
            for args in ((near, far, None), (far, near, self.cut_after)):
                threading.Thread(target=self._pump, args=args, daemon=True).start()

    def _pump(self, source, target, cut_after):
        try:
            source.settimeout(cut_after)
            while data := source.recv(65536):
                self._flowing.wait()
                target.sendall(data)
        except TimeoutError:
            self.cuts += 1
        except OSError:
            pass
        finally:
            self._close(source)
            self._close(target)

    def _close(self, one):
        with self._lock:
            self._open.discard(one)
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
