"""What can go wrong while bundles are made, served and run.

```
BundleError            never raised itself; every subclass carries a stable `code`
├── OPAUnavailable     no OPA binary that can serve was found
├── OPAFailed          the OPA binary refused what it was given (its own words follow)
├── PolicyRefused      a policy or site folder that must not be signed
├── KeyUnusable        a signing key that is missing, unreadable or of the wrong type
├── AddressInvalid     OPA cannot listen there
├── PublishingHeld     the registry is not what was published before; an operator must accept it
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
