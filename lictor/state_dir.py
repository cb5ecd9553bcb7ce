"""The state directory: `lictor init` creates it once, and every command reads it."""

import json
import secrets
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bundles.build.policies import SiteRules, build_policy, check_site, sign_site
from bundles.opa.binary import OPA
from bundles.publish.scan import Opener
from bundles.publish.signing import Bundle, SigningKey
from bundles.publish.store import Store
from lictor.exceptions import AlreadyInitialisedError
from lictor.keys import KeyFolder
from lictor.settings import TOML, Settings
from lictor_common.private_files import write_private
from registry import open_registry
from registry.operations import Operator

_README = """\
# The rules of this site, in package `site`. They only narrow: `deny contains {"action": …,
# "code": …, "message": …}` refuses an action, `hidden contains uid` takes a library away. They may
# read `data.lictor.actions`, `.principal`, `.granted_libraries` and `.library(uid)`.
package site
"""


_WHERE = ("registry", "registry_password_file", "cypher")
"""Settings that every later command needs with the values given to `init`."""


async def initialise(settings: Settings, *, actor: str) -> None:
    """Make the state directory: keys, settings, an empty registry, a folder for the site's rules.

    Raises:
        AlreadyInitialisedError: it is there.
        RegistryError: the registry cannot be used; no key was made.
    """
    toml = settings.state / TOML
    if toml.exists():
        raise AlreadyInitialisedError(f"{settings.state} is initialised already")
    for folder in (settings.state, settings.bundle_keys, settings.keys, settings.site):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with aclosing(await registry_opener(settings)()) as registry:
        # Before the first key, since keys are never overwritten: after a wrong address or password
        # the operator can correct it and repeat the command. A graph gets its constraints and its
        # first node here; a file is complete already.
        await registry.check(fix=True)
        public = _make_keys(settings)
        await Operator(registry, actor=actor).add_key(public["kid"], alg=public["alg"])
    if not any(settings.site.glob("*.rego")):
        (settings.site / "site.rego").write_text(_README)
    # Last: this file marks the directory as complete.
    kept = ["bundles_url"]
    kept += [name for name in _WHERE if name in settings.model_fields_set]
    toml.write_text(
        "# Flags and LICTOR_* variables come before what stands here.\n"
        + "".join(f"{name} = {json.dumps(str(getattr(settings, name)))}\n" for name in kept)
    )


def _make_keys(settings: Settings) -> dict[str, Any]:
    """Make every key and secret; return the public JWK of the key that signs team JWTs."""
    for keyid in ("policy", "data"):
        key = SigningKey.generate(keyid)
        key.save(settings.bundle_keys)
        (settings.bundle_keys / f"{keyid}.pub.pem").write_text(key.public_pem)
    require_newest_key(settings)
    for secret in (settings.bundles_token_file, settings.opa_token_file):
        secret.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(secret, secrets.token_urlsafe(32))
    return KeyFolder(settings.keys).new()


def require_newest_key(settings: Settings) -> Path:
    """Return the file of the key that authenticates the newest revision; make it if missing.

    It follows from the key that signs data, so that several servers have the same.

    Raises:
        KeyUnusableError: neither is there.
    """
    if not settings.newest_key.exists():
        key = SigningKey.load(settings.bundle_keys / "data.pem")
        write_private(settings.newest_key, key.secret("newest 1").hex())
    return settings.newest_key


def registry_opener(settings: Settings) -> Opener:
    """Return the function that opens the settings' registry; another process may call it."""
    return partial(
        open_registry,
        settings.registry,
        password_file=settings.registry_password_file,
        cypher=settings.cypher,
    )


@dataclass(frozen=True)
class BuiltPolicies:
    """The policy and site bundles, and what was found in the site's rules."""

    policy: Bundle
    site: Bundle
    rules: SiteRules

    @property
    def bundles(self) -> tuple[Bundle, Bundle]:
        """Both bundles."""
        return self.policy, self.site


def build_policies(settings: Settings, opa: OPA, *, sign: bool) -> BuiltPolicies:
    """Check and build the policy and site bundles.

    Without `sign` no key is needed: they are signed with one that is thrown away.

    Raises:
        BundleError: a rule that must not be signed, or a key that cannot sign.
    """
    key = (
        SigningKey.load(settings.bundle_keys / "policy.pem")
        if sign
        else SigningKey.generate("policy")
    )
    rules = check_site(opa, settings.site)
    return BuiltPolicies(build_policy(opa, key), sign_site(rules, key), rules)


def publish_policies(settings: Settings, opa: OPA) -> None:
    """Check, build and sign the policy and site bundles, for `lictor serve`.

    Raises:
        BundleError: as `build_policies`.
    """
    store = Store(settings.bundles)
    for bundle in build_policies(settings, opa, sign=True).bundles:
        store.save(bundle)
