"""What can go wrong while bundles are made, served and run.

```
BundleError            never raised itself; every subclass carries a stable `code`
├── OPAUnavailable     no OPA binary that can serve was found
├── OPAFailed          the OPA binary refused what it was given (its own words follow)
├── PolicyRefused      a policy or site folder that must not be signed
├── NoTests            a site's folder holds no test that could run
├── KeyUnusable        a signing key that is missing, unreadable or of the wrong type
├── AddressInvalid     OPA cannot listen there
├── ReceiptInvalid     a receipt that proves nothing
├── PublishingHeld     the registry is not what was published before; an operator must accept it
├── NotPublishing      another server publishes, this one follows it
├── NotPublished       nobody has published what is in the registry, within the time there was
├── LocationInvalid    a URL of what several servers share cannot be used
├── RedisUnavailable   Redis cannot be reached, or refuses
├── LeaseLost          another server publishes, or may
├── ArtefactsUnavailable   the store of artefacts cannot be read or written
├── ArtefactRefused    what was found in the store is no whole bundle with a good signature
├── MutationError      mutants cannot be made or run
└── StoreUnusable      the folder of published bundles cannot be read or written
```
"""


class BundleError(Exception):
    """The base of this package's errors; `code` is stable and safe to put in a metric."""

    code = "bundle_error"


class OPAUnavailable(BundleError):  # noqa: N818 - the name says the state, as in the reasons table
    """No OPA binary of a version that can serve was found; the message says what to install."""

    code = "opa_unavailable"


class OPAFailed(BundleError):  # noqa: N818 - the same
    """The OPA binary ran and refused; the message is what it printed."""

    code = "opa_failed"


class PolicyRefused(BundleError):  # noqa: N818 - the same
    """A policy folder fails a check that comes before signing; the message names file and line."""

    code = "policy_refused"


class NoTests(BundleError):  # noqa: N818 - the same
    """A site's folder holds no test that could run: that is not a success."""

    code = "no_tests"


class KeyUnusable(BundleError):  # noqa: N818 - the same
    """A bundle signing key cannot be used; the message names the file, never its content."""

    code = "key_unusable"


class StoreUnusable(BundleError):  # noqa: N818 - the same
    """The folder where published bundles are kept cannot be used."""

    code = "store_unusable"


class AddressInvalid(BundleError):  # noqa: N818 - the same
    """OPA cannot listen at the address that was asked for."""

    code = "address_invalid"


class PublishingHeld(BundleError):  # noqa: N818 - the same
    """The registry went back to an earlier state; nothing more is published until accepted."""

    code = "publishing_held"


class ReceiptInvalid(BundleError):  # noqa: N818 - the same
    """A receipt does not prove what it says; the message says why, and quotes nothing of it."""

    code = "receipt_invalid"


class NotPublishing(BundleError):  # noqa: N818 - the same
    """Only the server that publishes can do it; the message says which one that is."""

    code = "not_publishing"


class NotPublished(BundleError):  # noqa: N818 - the same
    """What is in the registry was not published within the time; it may be at any moment."""

    code = "not_published"


class LocationInvalid(BundleError):  # noqa: N818 - the same
    """A URL of what several servers share cannot be used; the message does not repeat it."""

    code = "location_invalid"


class RedisUnavailable(BundleError):  # noqa: N818 - the same
    """Redis cannot be reached, is too slow, or refuses; the message does not say where it is."""

    code = "redis_unavailable"


class LeaseLost(BundleError):  # noqa: N818 - the same
    """This process may not publish: its lease is over, or a later holder has published."""

    code = "lease_lost"


class ArtefactsUnavailable(BundleError):  # noqa: N818 - the same
    """The store of artefacts cannot be read or written; the message names the key."""

    code = "artefacts_unavailable"


class ArtefactRefused(BundleError):  # noqa: N818 - the same
    """An artefact is no whole bundle under its name with a good signature."""

    code = "artefact_refused"


class MutationError(BundleError):
    """Mutants of a site's rules cannot be made or run; the message says what to correct first."""

    code = "mutation_failed"
