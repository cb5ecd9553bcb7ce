"""The Rego broken on purpose: each breakage is edits of (module, what stands there once, what instead).

Only in a running OPA, never in the checkout. That a module still has the text is checked, so a breakage
does not quietly become none.
"""

from contextlib import contextmanager

from support.plain_opa import ROOT

POLICIES = "policies/lictor"
DECISION, GRANTS, SITE = "lictor.rego", "grants.rego", "refused_by_site.rego"
VISIBLE, REASONS = "visible.rego", "reasons.rego"
CALLER, REGISTRY = "caller/caller.rego", "registry/registry.rego"
CALLERS = "callers.rego"
BREAKAGES = {
    "lockdown stops nothing": [
        (DECISION, "\tlive.settings.lockdown == false\n\t_shards_are_current", "\t_shards_are_current"),
        (DECISION, '_blocked contains "lockdown" if not live.settings.lockdown == false', ""),
    ],
    "what live deleted is taken from base": [
        (REGISTRY, "found := live[kind][id]\n", "found := live[kind][id]\n\tfound != null\n"),
    ],
    "base comes before live": [
        (REGISTRY, "found := live[kind][id]", "found := _unpacked(base[shard(kind, id)][kind][id])"),
        (REGISTRY, "found := _unpacked(base[in_shard][kind][id])", "found := live[kind][id]"),
    ],
    "a shard may lag behind since": [(REGISTRY, "\t_reaches(base[id].revision, live.since[id])\n", "")],
    "a shard may be of another epoch": [(REGISTRY, "\tbase[id].epoch == live.epoch\n", "")],
    "live may go on from nowhere": [(REGISTRY, 'default shard(_, _) := "none"\n', "")],
    "a token's shard is the second digit": [(REGISTRY, "((16 * first) + second)", "((0 * first) + second)")],
    "live may lag behind the heartbeat": [(REGISTRY, "\tlive.revision >= beat.revision\n", "")],
    "old rules may run": [(REGISTRY, "\tdata.lictor.manifest.revision in beat.policy\n", "")],
    "an old site may run": [(REGISTRY, "\tdata.site.manifest.revision in beat.site\n", "")],
    "at the limit is too old": [(REGISTRY, "beat.synced_at_ns >= now -", "beat.synced_at_ns > now -")],
    "clocks may differ by six seconds": [(REGISTRY, "latest := now + 5000000000", "latest := now + 6000000000")],
    "the reconciling scan may stop": [
        (REGISTRY, "\tbeat.reconciled_at_ns >= now - (settings.reconcile_limit * 1000000000)\n", ""),
    ],
    "a token lives one moment more": [(REGISTRY, "moment * 1000000000 > time.now_ns()", "moment * 1000000000 >= time.now_ns()")],
    "an epoch alone is ignored": [(REGISTRY, "\tnot input.min_epoch\n", "")],
    "a newer epoch must have the revision too": [(REGISTRY, "live.epoch > input.min_epoch", "live.epoch < 0")],
    "a disabled user calls": [
        (CALLER, "\tis_current(_token)\n\t_user.active == true\n", "\tis_current(_token)\n"),
        (CALLER, "\tnot _user.active == true\n\tis_object(_token)\n", "\tfalse\n"),
    ],
    "a disabled owner's team calls": [
        (CALLER, "\t_user.active == true\n\t_team.active_jti", "\t_team.active_jti"),
        (CALLER, "\tnot _user.active == true\n\tis_object(_team)\n", "\tfalse\n"),
    ],
    "a rotated jti goes on": [
        (CALLER, "\t_team.active_jti == input.credential.claims.jti\n}\n\n# METADATA\n# description: The libraries", "}\n\n# METADATA\n# description: The libraries"),
        (CALLER, "\tnot _team.active_jti == input.credential.claims.jti\n", "\tfalse\n"),
    ],
    "a retired key signs": [
        (CALLER, "\t_key.active == true\n\t_team.active", "\t_team.active"),
        (CALLER, "\tnot _key.active == true\n\tis_object(_key)\n", "\tfalse\n"),
    ],
    "any issuer mints for teams": [
        (CALLER, '\tinput.credential.claims.iss == "mnemosyne"\n', ""),
        (CALLER, '\tnot input.credential.claims.iss == "mnemosyne"\n', "\tfalse\n"),
    ],
    "libraries of workspaces that the team is not in": [
        (CALLER, "\tsome workspace in _team.workspaces\n\tsome library in", "\tsome workspace, _ in base[_].workspaces\n\tsome library in"),
        (CALLER, "import data.registry.live\n", "import data.registry.base\nimport data.registry.live\n"),
    ],
    "only the first workspace counts": [
        (CALLER, "\tsome workspace in _team.workspaces\n\tsome library in", "\tworkspace := _team.workspaces[0]\n\tsome library in"),
    ],
    "a workspace in a shard that lags is passed over": [
        (CALLER, '\tinput.credential.kind == "jwt"\n\tsome workspace in _team.workspaces\n}', "\tfalse\n\tsome workspace in _team.workspaces\n}"),
    ],
    "records of an older lictor serve are not read": [(REGISTRY, "} else := record\n", "} else := null\n")],
    "records in strings are not read": [(REGISTRY, "json.unmarshal(record)", "null")],
    "the shard that live names is not looked up": [(REGISTRY, "substring(digest, 0, 2)]", "substring(digest, 1, 2)]")],
    "a call takes a prompt's pattern": [
        (GRANTS, "\tglob.match(pattern, null, input.action.name)\n\tnot _qualified(pattern)\n", "\tglob.match(pattern, null, input.action.name)\n"),
    ],
    "a call's star stops at dots": [(GRANTS, "glob.match(pattern, null, input.action.name)", "glob.match(pattern, [], input.action.name)")],
    "a star grants calls of unknown methods": [(GRANTS, "\tinput.action.method in _methods\n", "")],
    "a call passes the site's broken rules": [(SITE, "_call_denied if {\n\tsome rule in data.site.deny\n", "_call_denied if {\n\tfalse\n\tsome rule in data.site.deny\n")],
    "a call passes the site": [(SITE, "_call_denied if some rule in _site_rules\n", "")],
    "a star stops at dots": [(GRANTS, "glob.match(pattern, null, action.name)", "glob.match(pattern, [], action.name)")],
    "a tool's pattern reaches prompts": [(GRANTS, "\taction.method in _qualified_methods\n\t_qualifies(caller.tools, action)", "\t_calls(caller.tools, action)")],
    "a prompt's pattern reaches tools": [(GRANTS, "\tsome pattern in caller.tools\n\tnot _qualified(pattern)", "\tsome pattern in caller.tools")],
    "a star grants unknown methods": [(GRANTS, "\tsome i, action in actions\n\taction.method in _methods\n", "\tsome i, action in actions\n")],
    "lists show what the site refuses": [(VISIBLE, "_visible := _permitted - _site_denied if", "_visible := _permitted if")],
    "anonymous callers see what the site refuses": [(VISIBLE, "_visible := _listed - _site_denied if", "_visible := _listed if")],
    "a bad bearer sees what none would": [(VISIBLE, "patterns := live.settings.listable.rejected", "patterns := live.settings.listable.anonymous")],
    "the site hides no library": [(SITE, "caller.libraries - {uid | some uid in data.site.hidden}", "caller.libraries - set()")],
    "libraries with unknown tags are shown": [(DECISION, "library(uid).tags == null", "false")],
    "rules may read shards that lag": [(DECISION, "_tags_are_current if registry.all_shards_are_current", "_tags_are_current if true")],
    "a part's list is taken in its order": [
        (SITE, "\tevery one in wanted {\n\t\tone in actual\n\t}\n", "\tobject.subset(actual, wanted)\n"),
    ],
    "a part's list has to be in the action by one element": [
        (SITE, "\tevery one in wanted {\n\t\tone in actual\n\t}\n", "\tsome one in wanted\n\tone in actual\n"),
    ],
    "what hides in the wrong form hides nothing": [(SITE, "\tnot is_string(uid)\n", "\tfalse\n")],
    "a site's broken rule is passed over": [(SITE, "_site_denied contains i if {\n\t_malformed\n", "_site_denied contains i if {\n\tfalse\n")],
    "lockdown comes before outages": [(REASONS, '\t"behind", "stale_data", "lockdown",\n\t"missing_token"', '\t"lockdown", "behind", "stale_data",\n\t"missing_token"')],
}  # fmt: skip
"""For the agreement with the model."""

LAW_BREAKAGES = {
    "removing_a_grant_gives_nothing": [
        (GRANTS, '_everything if "*" in caller.tools', '_everything if "*" in caller.tools\n\n_everything if count(caller.tools) < 3'),
    ],
    "renaming_principals_changes_nothing": [
        (CALLER, "\t_token.active == true\n", '\t_token.active == true\n\t_token.user != "ada"\n'),
    ],
    "a_site_rule_never_widens": [
        (SITE, "caller.libraries - {uid | some uid in data.site.hidden}", "caller.libraries | {uid | some uid in data.site.hidden}"),
    ],
    "order_never_matters": [
        (GRANTS, "\tsome pattern in caller.tools\n\tnot _qualified(pattern)", "\tpattern := caller.tools[0]\n\tnot _qualified(pattern)"),
    ],
    "callers_together_are_each_as_if_alone": [
        (CALLERS, "\tuser.active == true\n", ""),
    ],
    "an_answer_holds_until_it_says": [
        (CALLER, "deadlines contains _token.expires_at if {", "deadlines contains _token.expires_at + 1 if {"),
    ],
}  # fmt: skip
"""One for each of the laws."""


@contextmanager
def broken(opa, edits):
    """The OPA with some modules edited, for as long as the block lasts."""
    sound = {name: (ROOT / POLICIES / name).read_text() for name, _, _ in edits}
    changed = dict(sound)
    for name, old, new in edits:
        assert changed[name].count(old) == 1, (
            f"{name} has this {changed[name].count(old)} times: {old}"
        )
        changed[name] = changed[name].replace(old, new)
    try:
        _put(opa, changed)
        yield
    finally:
        _put(opa, sound)


def _put(opa, modules):
    for name, text in modules.items():
        # OPA calls a module by the path that it was loaded from.
        opa.put_policy(str(ROOT / POLICIES / name).lstrip("/"), text.encode())
