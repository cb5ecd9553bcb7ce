"""The store of signed bundles for all servers and any static host: a directory, or S3.

Each object is replaced as a whole: S3 does so, and in a directory obstore writes beside it and
renames. In S3 an object is replaced only while it is the one that the writer knows (`If-Match`); a
directory has nothing like it, so a write may follow another one that the check did not see.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotModifiedError, PreconditionError
from obstore.store import LocalStore, S3Store

from bundles.exceptions import LocationInvalidError, ObjectStoreUnavailableError
from bundles.publish.signing import CONTENT_TYPE

if TYPE_CHECKING:
    from obstore import GetOptions, PutMode
    from obstore.store import ClientConfig, RetryConfig

FOLDER = "bundles"
"""The folder below the URL, so that OPA finds `bundles/<name>.tar.gz` there."""

ANY = "*"
"""Replace whatever is there."""

_CACHING = "max-age=1, must-revalidate"
"""A CDN fetches each bundle at most once a second, and does not serve an older one."""

_LARGEST = 1 << 30
_TIMEOUT = 20.0
_HALF_WRITTEN = re.compile(r".+#\d+")
"""The name that object_store gives a file before the rename; a killed process leaves it."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object.

    Attributes:
        content: its bytes.
        etag: which version of it that is, to the store.
    """

    content: bytes
    etag: str


class ObjectChangedError(Exception):
    """The object is not, or no longer, the one that was to be replaced."""


class ObjectStore:
    """A directory or a bucket's prefix that holds objects by name."""

    def __init__(self, url: str, *, timeout: float = _TIMEOUT) -> None:
        """Open it; nothing is read or written yet.

        Args:
            url: `file:///folder`, or `s3://bucket/prefix` with its endpoint, region and credentials
                in the usual `AWS_*` variables.
            timeout: seconds for one object.

        Raises:
            LocationInvalidError: the URL is not supported, or the directory cannot be made.
        """
        self._timeout = timeout
        try:
            self._folder, self._store = _opened(url, timeout)
        except (ValueError, TypeError, OSError, BaseError) as error:
            raise LocationInvalidError(
                "LICTOR_ARTEFACTS_URL is file:///folder, which can be made and written, or "
                f"s3://bucket/prefix ({type(error).__name__})"
            ) from None

    @property
    def conditional(self) -> bool:
        """Whether the store itself refuses to replace an object that another writer replaced."""
        return self._folder is None

    async def get(self, name: str, *, unless: str = "") -> StoredObject | None:
        """Read an object.

        Args:
            name: below `bundles/`.
            unless: the ETag of a version that is not wanted again.

        Returns:
            The object; None if it is missing, or is that version.

        Raises:
            ObjectStoreUnavailableError: it cannot be read, or is larger than 1 GiB.
        """
        async with self._store_errors(name):
            try:
                options: GetOptions = {"if_none_match": unless} if unless else {}
                result = await obstore.get_async(self._store, f"{FOLDER}/{name}", options=options)
            except (FileNotFoundError, NotModifiedError):
                return None
            if result.meta["size"] > _LARGEST:
                raise ObjectStoreUnavailableError(f"{name}: larger than {_LARGEST} bytes")
            content = bytes(await result.bytes_async())
            return StoredObject(content, result.meta["e_tag"] or "")

    async def put(self, name: str, content: bytes, *, replaces: str, kind: str = "") -> str:
        """Replace an object as a whole.

        Args:
            name: below `bundles/`.
            content: its bytes.
            replaces: the ETag of the version that is there; empty when nothing is; or `ANY`.
            kind: its media type; by default that of a bundle.

        Returns:
            The new version's ETag.

        Raises:
            ObjectChangedError: something else is there.
            ObjectStoreUnavailableError: it could not be written, or the result is unknown.
        """
        key, mode = f"{FOLDER}/{name}", _mode(replaces)
        async with self._store_errors(name):
            if self._folder is not None:
                # Neither conditions nor attributes in a directory: check, then write.
                if replaces not in {ANY, await self._etag(key)}:
                    raise ObjectChangedError(name)
                done = await obstore.put_async(self._store, key, content)
                return done["e_tag"] or ""
            attributes = {"Content-Type": kind or CONTENT_TYPE, "Cache-Control": _CACHING}
            try:
                done = await obstore.put_async(
                    self._store,
                    key,
                    content,
                    attributes=attributes,
                    mode=mode,
                    # In parts, it could not be conditional.
                    use_multipart=False,
                )
            except (PreconditionError, AlreadyExistsError):
                raise ObjectChangedError(name) from None
            return done["e_tag"] or ""

    async def etags(self) -> Mapping[str, str]:
        """The names of all objects, and which version of each is there.

        Raises:
            ObjectStoreUnavailableError: they cannot be listed.
        """
        async with self._store_errors(FOLDER):
            listed = await obstore.list(self._store, FOLDER).collect_async()
        return {one["path"].removeprefix(f"{FOLDER}/"): one["e_tag"] or "" for one in listed}

    def sweep(self) -> None:
        """Remove what killed processes had begun to write. Only for the publishing server.

        A process that was only frozen, and resumes, cannot finish what is removed.

        Raises:
            ObjectStoreUnavailableError: it cannot be removed.
        """
        if self._folder is None:
            return
        try:
            for file in (self._folder / FOLDER).glob("*#*"):
                if _HALF_WRITTEN.fullmatch(file.name):
                    file.unlink(missing_ok=True)
        except OSError as error:
            raise ObjectStoreUnavailableError(f"{FOLDER}: {type(error).__name__}") from None

    async def _etag(self, key: str) -> str:
        try:
            return (await obstore.head_async(self._store, key))["e_tag"] or ""
        except FileNotFoundError:
            return ""

    @asynccontextmanager
    async def _store_errors(self, name: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except (BaseError, OSError, TimeoutError, NotImplementedError) as error:
            # Its kind only: the text holds the request, and what the server said to it. obstore has
            # no error of its own for what a store is set not to do, such as conditional writes.
            raise ObjectStoreUnavailableError(f"{name}: {type(error).__name__}") from None


def _mode(replaces: str) -> "PutMode":
    if replaces == ANY:
        return "overwrite"
    return {"e_tag": replaces} if replaces else "create"


def _opened(url: str, timeout: float) -> tuple[Path | None, LocalStore | S3Store]:
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path:
        folder = Path(unquote(parts.path))
        return folder, LocalStore(folder, mkdir=True)
    if parts.scheme != "s3" or not parts.hostname or parts.username:
        raise ValueError(parts.scheme)
    retries: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=timeout)}
    client: ClientConfig = {
        "timeout": timedelta(seconds=timeout / 2),
        "connect_timeout": timedelta(seconds=timeout / 4),
        # Of the variables, the one that options for the client hide from obstore.
        "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() in {"true", "1"},
    }
    prefix = parts.path.strip("/") or None
    return None, S3Store(parts.hostname, prefix=prefix, retry_config=retries, client_options=client)
