"""What each of OPA's builtins may do, and what a site's rules are allowed of it.

A site's rules decide on what they are given and on the time. A builtin that can open a connection
or a file, or that reveals OPA's host, must not be used in them. The list names what is allowed, not
what is forbidden: a builtin that a later OPA adds is refused until it has been looked at.
"""

import json
from functools import lru_cache
from typing import Any

from bundles.opa.binary import OPA

CLOCK = frozenset(
    {
        # A certificate's validity is compared with the time, whatever the capabilities say.
        "crypto.x509.parse_and_verify_certificates",
        "crypto.x509.parse_and_verify_certificates_with_options",
        "io.jwt.decode_verify",
        "io.jwt.encode_sign",
        "io.jwt.encode_sign_raw",
        "rand.intn",
        "time.now_ns",
        "uuid.rfc4122",
    }
)
"""Allowed; the result differs between evaluations."""

_PURE = frozenset(
    """
    abs all and any array.concat array.flatten array.reverse array.slice assign base64.decode
    base64.encode base64.is_valid base64url.decode base64url.encode base64url.encode_no_pad bits.and
    bits.lsh bits.negate bits.or bits.rsh bits.xor cast_array cast_boolean cast_null cast_object
    cast_set cast_string ceil concat contains count crypto.hmac.equal crypto.hmac.md5
    crypto.hmac.sha1 crypto.hmac.sha256 crypto.hmac.sha512 crypto.md5 crypto.parse_private_keys
    crypto.sha1 crypto.sha256 crypto.x509.parse_certificate_request crypto.x509.parse_certificates
    crypto.x509.parse_keypair crypto.x509.parse_rsa_private_key div endswith eq equal floor
    format_int glob.match glob.quote_meta graph.reachable graph.reachable_paths graphql.is_valid
    graphql.parse graphql.parse_and_verify graphql.parse_query graphql.parse_schema
    graphql.schema_is_valid gt gte hex.decode hex.encode indexof indexof_n internal.member_2
    internal.member_3 internal.print internal.template_string internal.test_case intersection
    io.jwt.decode io.jwt.verify_eddsa io.jwt.verify_es256 io.jwt.verify_es384 io.jwt.verify_es512
    io.jwt.verify_hs256 io.jwt.verify_hs384 io.jwt.verify_hs512 io.jwt.verify_ps256
    io.jwt.verify_ps384 io.jwt.verify_ps512 io.jwt.verify_rs256 io.jwt.verify_rs384
    io.jwt.verify_rs512 is_array is_boolean is_null is_number is_object is_set is_string json.filter
    json.is_valid json.marshal json.marshal_with_options json.patch json.remove json.unmarshal lower
    lt lte max min minus mul neq numbers.range numbers.range_step object.filter object.get
    object.keys object.remove object.subset object.union object.union_n or plus print product
    providers.aws.sign_req re_match regex.find_all_string_submatch_n regex.find_n regex.globs_match
    regex.is_valid regex.match regex.replace regex.split regex.template_match rego.metadata.chain
    rego.metadata.rule rem replace round semver.compare semver.is_valid set_diff sort split sprintf
    startswith strings.any_prefix_match strings.any_suffix_match strings.count
    strings.render_template strings.replace_n strings.reverse strings.split_n substring sum
    time.add_date time.clock time.date time.diff time.format time.parse_duration_ns time.parse_ns
    time.parse_rfc3339_ns time.weekday to_number trim trim_left trim_prefix trim_right trim_space
    trim_suffix type_name union units.parse units.parse_bytes upper uri.is_valid uri.parse
    urlquery.decode urlquery.decode_object urlquery.encode urlquery.encode_object uuid.parse walk
    yaml.is_valid yaml.marshal yaml.unmarshal
    """.split()
)
"""The result depends on the arguments alone."""

ALLOWED = _PURE | CLOCK

_REASONS = {
    "http.send": "it opens connections",
    "json.match_schema": "a schema's `$ref` opens connections and files",
    "json.verify_schema": "a schema's `$ref` opens connections and files",
    "net.lookup_ip_addr": "it opens connections",
    "opa.runtime": "it reveals OPA's environment",
    "rego.parse_module": "a decision has no use for it",
    "trace": "a decision has no use for it; `print` shows in `lictor policies test`",
}


def explain_refusal(name: str) -> str:
    """Why a builtin is refused, for the author of the rule that calls it."""
    reason = _REASONS.get(name, "lictor allows only builtins that it knows to stay in OPA")
    return f"lictor does not allow {name} in site rules: {reason}"


@lru_cache(maxsize=4)
def read_declarations(opa: OPA) -> dict[str, dict[str, Any]]:
    """Every builtin of an OPA by its name, as `opa capabilities` declares it."""
    return {builtin["name"]: builtin for builtin in _capabilities(opa)["builtins"]}


def restrict_capabilities(opa: OPA) -> dict[str, Any]:
    """An OPA's capabilities without what a site's rules may not use, for `opa check`."""
    capabilities = dict(_capabilities(opa))
    capabilities["builtins"] = [
        builtin for builtin in capabilities["builtins"] if builtin["name"] in ALLOWED
    ]
    capabilities["allow_net"] = []
    return capabilities


@lru_cache(maxsize=4)
def _capabilities(opa: OPA) -> dict[str, Any]:
    capabilities: dict[str, Any] = json.loads(opa.run("capabilities", "--current"))
    return capabilities
