"""The errors of building, serving and running bundles."""


class BundleError(Exception):
    """The base of this package's errors, never raised itself; its `code` is stable."""

    code = "bundle_error"


class OPAUnavailableError(BundleError):
    """A suitable OPA binary was not found; the message says what to install."""

    code = "opa_unavailable"


class OPAFailedError(BundleError):
    """The OPA binary rejected its input; the message is what it printed."""

    code = "opa_failed"


class PolicyRefusedError(BundleError):
    """A policy or site folder must not be signed; the message names file and line."""

    code = "policy_refused"


class NoTestsError(BundleError):
    """A site's folder holds no test that could run."""

    code = "no_tests"


class KeyUnusableError(BundleError):
    """A bundle signing key cannot be used; the message names the file, never its content."""

    code = "key_unusable"


class StoreUnusableError(BundleError):
    """The folder where published bundles are kept cannot be used."""

    code = "store_unusable"


class AddressInvalidError(BundleError):
    """OPA cannot listen at the configured address."""

    code = "address_invalid"


class PublishingHeldError(BundleError):
    """The registry went back to an earlier state; nothing more is published until accepted."""

    code = "publishing_held"


class ReceiptInvalidError(BundleError):
    """A receipt proves nothing; the message says why, and does not quote the receipt."""

    code = "receipt_invalid"


class NotPublishingError(BundleError):
    """This server only follows; the message names the one that publishes."""

    code = "not_publishing"


class NotPublishedError(BundleError):
    """The registry was not published within the time; it still may be."""

    code = "not_published"


class LocationInvalidError(BundleError):
    """The URL of Redis or of the object store cannot be used; the message does not quote it."""

    code = "location_invalid"


class RedisUnavailableError(BundleError):
    """Redis cannot be reached, is too slow, or refuses; the message does not say where it is."""

    code = "redis_unavailable"


class LeaseLostError(BundleError):
    """This process may not publish: its lease is over, or a later holder has published."""

    code = "lease_lost"


class ObjectStoreUnavailableError(BundleError):
    """The object store cannot be read or written; the message names the key."""

    code = "artefacts_unavailable"


class ObjectRefusedError(BundleError):
    """An object is not a whole bundle of its name with a valid signature."""

    code = "artefact_refused"


class MutationError(BundleError):
    """Mutants of a site's rules cannot be made or run; the message says what to correct first."""

    code = "mutation_failed"
