"""From a bearer to a decision: verify the bearer, query OPA, fail closed."""

from pdp_client.bearer.key_table import Issuer
from pdp_client.bearer.keyring import Keyring
from pdp_client.bearer.keyring_file import KeyringFile
from pdp_client.bearer.replay import ReplayGuard, ReplayMemory
from pdp_client.bearer.verifier import BearerVerifier, Credential
from pdp_client.decision import Action, Decision, Principal, Visible
from pdp_client.exceptions import (
    BearerRejected,
    ConfigurationError,
    KeyringError,
    PDPError,
    RecordFailed,
)
from pdp_client.pdp import PDP
from pdp_client.reasons import Reason, ReasonClass
from pdp_client.record import DecisionRecord, FileRecord

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
