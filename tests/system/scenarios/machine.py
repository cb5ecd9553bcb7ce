"""Scenarios: commands, kills and calls in a random order; and the laws that hold in all of them.

Each decision names its revision. It must agree with the ledger of that revision, and the
revision must include what was acknowledged before the call began.
"""

import itertools
import time
from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pdp_client.bearer.opaque import digest, mint_opaque
from registry import Key, Team, Token, User
from tests.system.faults.deployment import LIMIT
from tests.system.faults.trial import SETTLED

from .driver import DEPTHS, MODES, PARTS
from .ledger import Bearer, Ledger, TeamFacts, TokenFacts

TOOLS = ("search", "write", "sealed")
SOME = st.lists(st.sampled_from(DEPTHS), min_size=1, max_size=4)
"""Depths of concurrent calls: the site's rule allows some, and denies others."""
PATTERNS = st.sampled_from([("*",), ("search",), ("se*",), ("search", "write")])
ANY = st.integers(0, 99)
"""The number of an existing object, modulo how many there are."""

_numbers = itertools.count(1)


def one(things, number):
    """The thing with this number, modulo how many there are."""
    return list(things)[number % len(things)]


class Scenarios(RuleBasedStateMachine):
    """One scenario. The test sets `driver`; all scenarios of a run use the same one."""

    driver = None

    @initialize()
    def begin(self):
        """Create one of each, and a caller who may do everything."""
        self.driver.make()
        # Scenarios before this one have left records, which its callers never meet.
        self.ledgers = {self.driver.revision(): Ledger()}
        self.acknowledged = []
        self.newest = dict.fromkeys(MODES, (0, 0))
        self.bearers = []
        self.turns = itertools.count()
        self.kid = None
        self.retire()
        self.add_user()
        self.add_workspace()
        self.add_library(0)
        self.create_token(0, ("*",), [0])
        self.create_team(0, ("*",))
        self.grant(0, 0)

    @property
    def now(self):
        """The ledger of the newest revision."""
        return self.ledgers[max(self.ledgers)]

    def at(self, revision):
        """The ledger of a revision; an empty one before the scenario began."""
        known = [number for number in self.ledgers if number <= revision]
        return self.ledgers[max(known)] if known else Ledger()

    def write(self, verb, change):
        """Have an operator do something, and note it. Returns the record."""
        done, said = self.driver.write(verb)
        revision = done.version.revision
        if not said:
            self.acknowledged.append((time.monotonic(), revision))
        self.driver.counts["commands that returned" if not said else "commands that failed"] += 1
        self.ledgers[revision] = change(self.now, done.record)
        return done.record

    # What operators do.

    @rule()
    def add_user(self):
        name = f"user-{next(_numbers)}"
        self.write(lambda op: op.add_user(name), lambda now, _: now.with_("users", name, True))

    @rule()
    def add_workspace(self):
        name = f"workspace-{next(_numbers)}"
        self.write(
            lambda op: op.add_workspace(name), lambda now, _: now.with_("workspaces", name, ())
        )

    @rule(to=ANY)
    def add_library(self, to):
        uid, workspace = f"library-{next(_numbers)}", one(self.now.workspaces, to)
        self.write(
            lambda op: op.add_library(uid, workspace=workspace),
            lambda now, _: now.with_("workspaces", workspace, (*now.workspaces[workspace], uid)),
        )

    @rule(of=ANY, tools=PATTERNS, some=st.lists(ANY, max_size=3))
    def create_token(self, of, tools, some):
        user, text = one(self.now.users, of), mint_opaque()
        hashed = digest(text)
        there = sorted({uid for uids in self.now.workspaces.values() for uid in uids})
        granted = tuple({one(there, number) for number in some})
        self.write(
            lambda op: op.create_token(hashed, user=user, tools=tools, libraries=granted),
            lambda now, _: now.with_("tokens", hashed, TokenFacts(user, tools, granted)),
        )
        self.bearers.append(Bearer(text, hashed))

    @rule(of=ANY, tools=PATTERNS)
    def create_team(self, of, tools):
        owner = one(self.now.users, of)
        team = self.write(
            lambda op: op.create_team("Docs", owner=owner, tools=tools),
            lambda now, team: now.with_("teams", team.id, TeamFacts(owner, team.active_jti, tools)),
        )
        self.mint(team.id)

    def mint(self, team):
        jti = self.now.teams[team].jti
        text = self.driver.keys.mint_team(team, jti=jti, active_kids=[self.kid])
        self.bearers.append(Bearer(text, team, jti, self.kid))

    @rule(team=ANY, workspace=ANY)
    def grant(self, team, workspace):
        team, workspace = one(self.now.teams, team), one(self.now.workspaces, workspace)
        self.write(
            lambda op: op.assign(team, workspace),
            lambda now, record: now.changed("teams", team, workspaces=record.workspaces),
        )

    @rule(team=ANY, workspace=ANY)
    def take_away(self, team, workspace):
        team, workspace = one(self.now.teams, team), one(self.now.workspaces, workspace)
        left = tuple(name for name in self.now.teams[team].workspaces if name != workspace)
        self.write(
            lambda op: op.unassign(team, workspace),
            lambda now, _: now.changed("teams", team, workspaces=left),
        )

    @rule(team=ANY)
    def rotate(self, team):
        """A team gets another JWT; the one before is dead."""
        team = one(self.now.teams, team)
        self.write(
            lambda op: op.rotate_team(team),
            lambda now, record: now.changed("teams", team, jti=record.active_jti),
        )
        self.mint(team)

    @rule(team=ANY, active=st.booleans())
    def switch_team(self, team, active):
        team = one(self.now.teams, team)
        self.write(
            lambda op: op.activate_team(team) if active else op.deactivate_team(team),
            lambda now, _: now.changed("teams", team, active=active),
        )

    @rule(token=ANY)
    def revoke(self, token):
        hashed = one(self.now.tokens, token)
        self.write(
            lambda op: op.revoke_token(hashed),
            lambda now, _: now.changed("tokens", hashed, active=False),
        )

    @rule(user=ANY, active=st.booleans())
    def switch_user(self, user, active):
        user = one(self.now.users, user)
        self.write(
            lambda op: op.enable_user(user) if active else op.disable_user(user),
            lambda now, _: now.with_("users", user, active),
        )

    @rule()
    def retire(self):
        """A new key for teams; the one before is dead."""
        before = self.kid
        key = self.driver.keys.new()
        self.kid = key["kid"]
        self.write(
            lambda op: op.add_key(self.kid, alg=key["alg"]),
            lambda now, _: now.with_("keys", self.kid, True),
        )
        if before:
            self.write(
                lambda op: op.retire_key(before), lambda now, _: now.with_("keys", before, False)
            )

    @rule(on=st.booleans())
    def lockdown(self, on):
        self.write(lambda op: op.lockdown(on=on), lambda now, _: replace(now, lockdown=on))

    # What becomes of the parts.

    @precondition(lambda self: self.driver.at_rest)
    @rule()
    def compact(self):
        self.driver.compact()

    @precondition(lambda self: len(self.driver.stopped) < 2)
    @rule(part=st.sampled_from(PARTS))
    def stop(self, part):
        if part not in self.driver.stopped:
            self.driver.stop(part)

    @precondition(lambda self: not self.driver.at_rest)
    @rule()
    def restart(self):
        self.until_rest()

    @rule()
    def renew(self):
        self.driver.renew()

    def until_rest(self):
        self.driver.start()
        if self.now.lockdown:
            self.lockdown(on=False)
        self.driver.rest()
        # A command that failed is given again; one that returns speaks for all before it.
        self.add_user()
        assert self.acknowledged[-1][1] == max(self.ledgers)

    # Who calls.

    @rule(who=ANY, mode=st.sampled_from(MODES), tool=st.sampled_from(TOOLS), depths=SOME)
    def call(self, who, mode, tool, depths):
        self.judge(mode, one(self.bearers, who), tool, depths)

    @rule(who=ANY, depths=SOME)
    def renew_and_call(self, who, depths):
        """MCP servers do not know yet that rules read arguments, and find out by calls at once."""
        self.driver.renew()
        for mode in MODES:
            self.judge(mode, one(self.bearers, who), "search", depths)

    @rule(who=ANY, tool=st.sampled_from(TOOLS))
    def call_everywhere(self, who, tool):
        for mode in MODES:
            self.judge(mode, one(self.bearers, who), tool)

    @rule(who=ANY)
    def call_revoke_and_call(self, who):
        """What every cache in between must survive."""
        bearer = one(self.bearers, who)
        self.call_everywhere(who, "search")
        if bearer.jti:
            self.rotate(list(self.now.teams).index(bearer.id))
        else:
            self.revoke(list(self.now.tokens).index(bearer.id))
        for mode in MODES:
            self.judge(mode, bearer, "search")

    @invariant()
    def the_next_three_call(self):
        """So that no scenario goes on without calls."""
        for _ in range(3):
            number = next(self.turns)
            self.judge(one(MODES, number), one(self.bearers, number // len(MODES)), "search")

    def judge(self, mode, bearer, tool, depths=DEPTHS[:1]):
        """Call concurrently, once for each depth, and check the decisions against the laws."""
        before = self.newest[mode]
        try:
            for depth, answer in zip(
                depths, self.driver.authorize(mode, bearer.text, tool, depths), strict=True
            ):
                self.laws(answer, mode, bearer, (tool, depth), before)
        except BaseException:
            self.driver.spoilt = True
            raise

    def laws(self, answer, mode, bearer, asked, before):
        """What holds of every answer."""
        self.driver.counts[answer.reason] += 1
        if answer.is_outage:
            assert answer.libraries == ()
            return
        said = f"{mode}, {asked}: {answer.reason} {answer.libraries} from {answer.version}"
        assert answer.version >= before, f"{said}, after {before}"
        self.newest[mode] = max(self.newest[mode], answer.version)
        _, revision = answer.version
        patience = 0.0 if mode.startswith("strict") else LIMIT + SETTLED
        due = [number for at, number in self.acknowledged if at + patience < answer.at]
        assert revision >= max(due, default=0), f"{said}, and {max(due)} was due"
        expected = self.at(revision).expected(bearer, *asked)
        assert (answer.reason, answer.libraries) == expected, f"{said}; should be {expected}"

    def teardown(self):
        if self.driver.spoilt:
            return
        try:
            self.finish()
        except BaseException:
            self.driver.spoilt = True
            raise

    def finish(self):
        """At rest, everybody gets what the newest ledger says, from PDPs that remember nothing; and it is stored."""
        self.until_rest()
        self.driver.renew()
        for bearer in self.bearers:
            for mode in ("strict", "bounded"):
                self.judge(mode, bearer, "search")
        self.all_is_stored()
        self.driver.made += [
            (bearer, *self.now.expected(bearer, "search")) for bearer in self.bearers
        ]

    def all_is_stored(self):
        for name, active in self.now.users.items():
            assert self.driver.stored(User, name).active is active
        for hashed, token in self.now.tokens.items():
            found = self.driver.stored(Token, hashed)
            assert (found.active, found.user, found.tools) == (
                token.active,
                token.user,
                token.tools,
            )
        for name, team in self.now.teams.items():
            found = self.driver.stored(Team, name)
            assert (found.active, found.active_jti) == (team.active, team.jti)
            assert set(found.workspaces) == set(team.workspaces)
        for kid, active in self.now.keys.items():
            assert self.driver.stored(Key, kid).active is active
