"""The errors of building, serving and running bundles.

```
BundleError            never raised itself; every subclass carries a stable `code`
├── OPAUnavailableError          no OPA binary that can serve was found
├── OPAFailedError               the OPA binary refused what it was given (its own words follow)
├── PolicyRefusedError           a policy or site folder that must not be signed
├── NoTestsError                 a site's folder holds no test that could run
├── KeyUnusableError             a signing key that is missing, unreadable or of the wrong type
├── AddressInvalidError          OPA cannot listen there
├── ReceiptInvalidError          a receipt that proves nothing
├── PublishingHeldError          an earlier registry than was published; an operator must accept it
├── NotPublishingError           another server publishes, this one follows it
├── NotPublishedError            the registry was not published within the time
├── LocationInvalidError         a URL of what several servers share cannot be used
├── RedisUnavailableError        Redis cannot be reached, or refuses
├── LeaseLostError               another server publishes, or may
├── ObjectStoreUnavailableError  the object store cannot be read or written
├── ObjectRefusedError           an object that is not a whole, validly signed bundle
├── MutationError                mutants cannot be made or run
└── StoreUnusableError           the folder of published bundles cannot be read or written
```
"""


class BundleError(Exception):
    """The base of this package's errors; `code` is stable and safe to put in a metric."""

    code = "bundle_error"


class OPAUnavailableError(BundleError):
    """A suitable OPA binary was not found; the message says what to install."""

    code = "opa_unavailable"


class OPAFailedError(BundleError):
    """The OPA binary ran and refused; the message is what it printed."""

    code = "opa_failed"


class PolicyRefusedError(BundleError):
    """A policy folder fails a check that comes before signing; the message names file and line."""

    code = "policy_refused"


class NoTestsError(BundleError):
    """A site's folder holds no test that could run: that is not a success."""

    code = "no_tests"


class KeyUnusableError(BundleError):
    """A bundle signing key cannot be used; the message names the file, never its content."""

    code = "key_unusable"


class StoreUnusableError(BundleError):
    """The folder where published bundles are kept cannot be used."""

    code = "store_unusable"


class AddressInvalidError(BundleError):
    """OPA cannot listen at the address that was asked for."""

    code = "address_invalid"


class PublishingHeldError(BundleError):
    """The registry went back to an earlier state; nothing more is published until accepted."""

    code = "publishing_held"


class ReceiptInvalidError(BundleError):
    """A receipt does not prove what it says; the message says why, and quotes nothing of it."""

    code = "receipt_invalid"


class NotPublishingError(BundleError):
    """Only the server that publishes can do it; the message says which one that is."""

    code = "not_publishing"


class NotPublishedError(BundleError):
    """The registry's state was not published in time; it may be at any moment."""

    code = "not_published"


class LocationInvalidError(BundleError):
    """A URL of what several servers share cannot be used; the message does not repeat it."""

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
