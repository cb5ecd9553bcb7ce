"""From a bearer to a decision: verify it, ask OPA, fail closed."""

from pdp_client.bindings import Issuer
from pdp_client.decision import Action, Decision, Principal, Visible
from pdp_client.exceptions import (
    BearerRejected,
    ConfigurationError,
    KeyringError,
    PDPError,
    RecordFailed,
)
from pdp_client.keyring import Keyring
from pdp_client.keyring_file import KeyringFile
from pdp_client.pdp import PDP
from pdp_client.reasons import Reason, ReasonClass
from pdp_client.record import DecisionRecord, FileRecord
from pdp_client.replay import ReplayGuard, ReplayMemory
from pdp_client.verifier import BearerVerifier, Credential

__all__ = [
    "PDP",
    "Action",
    "BearerRejected",
    "BearerVerifier",
    "ConfigurationError",
    "Credential",
    "Decision",
    "DecisionRecord",
    "FileRecord",
    "Issuer",
    "Keyring",
    "KeyringError",
    "KeyringFile",
    "PDPError",
    "Principal",
    "Reason",
    "ReasonClass",
    "RecordFailed",
    "ReplayGuard",
    "ReplayMemory",
    "Visible",
]
