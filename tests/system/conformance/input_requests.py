"""Tools that ask their client for something, in the way of each protocol.

Before 2026-07-28 they ask while they run. Since then (SEP-2322) they answer with
`InputRequiredResult`, and run again with the answers in the next request.
"""

import mcp_types
from fastmcp import Context
from pydantic import BaseModel, Field


class User(BaseModel):
    """What `test_elicitation` asks for."""

    username: str = Field(description="User's response")
    email: str = Field(description="User's email address")


class Defaults(BaseModel):
    """SEP-1034: each primitive type with a default."""

    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: str = Field("active", json_schema_extra={"enum": ["active", "inactive", "pending"]})
    verified: bool = True


def _titled(*names):
    return [{"const": name, "title": name.capitalize()} for name in names]


class Enums(BaseModel):
    """SEP-1330: each way to write a choice."""

    untitledSingle: str = Field(json_schema_extra={"enum": ["option1", "option2"]})  # noqa: N815
    titledSingle: str = Field(json_schema_extra={"oneOf": _titled("value1", "value2")})  # noqa: N815
    legacyEnum: str = Field(  # noqa: N815
        json_schema_extra={"enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]}
    )
    untitledMulti: list[str] = Field(  # noqa: N815
        json_schema_extra={"items": {"type": "string", "enum": ["option1", "option2"]}}
    )
    titledMulti: list[str] = Field(  # noqa: N815
        json_schema_extra={"items": {"anyOf": _titled("value1", "value2")}}
    )


def add_elicitation(mcp):
    """Tools that ask the client's user, in the way of the protocols before 2026-07-28."""

    async def request_input(ctx, message, wanted):
        answer = await ctx.elicit(message, wanted)
        said = answer.data.model_dump_json() if answer.action == "accept" else "{}"
        return f"Elicitation completed: action={answer.action}, content={said}"

    @mcp.tool
    async def test_elicitation(message: str, ctx: Context) -> str:
        """Ask for a name and an address."""
        return await request_input(ctx, message, User)

    @mcp.tool
    async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
        """Ask with defaults."""
        return await request_input(ctx, "Please review", Defaults)

    @mcp.tool
    async def test_elicitation_sep1330_enums(ctx: Context) -> str:
        """Ask for choices."""
        return await request_input(ctx, "Please choose", Enums)


def elicit(message, **properties):
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
    }
    params = mcp_types.ElicitRequestFormParams(message=message, requested_schema=schema)
    return mcp_types.ElicitRequest(params=params)


def sample(prompt, most=100):
    asked = mcp_types.TextContent(type="text", text=prompt)
    message = mcp_types.SamplingMessage(role="user", content=asked)
    params = mcp_types.CreateMessageRequestParams(messages=[message], max_tokens=most)
    return mcp_types.CreateMessageRequest(params=params)


def roots():
    return mcp_types.ListRootsRequest()


def needed(state=None, **requests):
    return mcp_types.InputRequiredResult(input_requests=requests, request_state=state)


def accepted(ctx, key, name, kind=str):
    """The value that a form was filled in with; None for whatever else came, or nothing."""
    answer = (ctx.input_responses or {}).get(key)
    content = getattr(answer, "content", None)
    value = content.get(name) if isinstance(content, dict) else None
    return value if isinstance(value, kind) else None


def answered(ctx, *keys):
    return set(keys) <= set(ctx.input_responses or {})


def add_rounds(mcp):
    """Add them."""
    _single(mcp)
    _with_state(mcp)
    _by_capability(mcp)

    @mcp.prompt
    async def test_input_required_result_prompt(ctx: Context) -> str:
        """Needs a context."""
        context = accepted(ctx, "user_context", "context")
        if context is None:
            return needed(user_context=elicit("What context should it use?", context="string"))
        return f"In the context of {context}"


def _single(mcp):
    @mcp.tool(output_schema=None)
    async def test_input_required_result_elicitation(ctx: Context):
        """Needs a name."""
        name = accepted(ctx, "user_name", "name")
        if name is None:
            return needed(user_name=elicit("What is your name?", name="string"))
        return f"Hello, {name}!"

    @mcp.tool(output_schema=None)
    async def test_streaming_elicitation(ctx: Context):
        """Needs a name, and reports progress first."""
        await ctx.report_progress(1, 2)
        if (name := accepted(ctx, "user_name", "name")) is None:
            return needed(user_name=elicit("What is your name?", name="string"))
        return f"Hello, {name}!"

    @mcp.tool(output_schema=None)
    async def test_input_required_result_sampling(ctx: Context):
        """Needs an answer of the client's model."""
        if not answered(ctx, "capital_question"):
            return needed(capital_question=sample("What is the capital of France?"))
        return ctx.input_responses["capital_question"].content.text

    @mcp.tool(output_schema=None)
    async def test_input_required_result_list_roots(ctx: Context):
        """Needs the client's roots."""
        if not answered(ctx, "client_roots"):
            return needed(client_roots=roots())
        return " ".join(str(root.uri) for root in ctx.input_responses["client_roots"].roots)


def _with_state(mcp):
    @mcp.tool(output_schema=None)
    async def test_input_required_result_request_state(ctx: Context):
        """Needs a confirmation, and its state back."""
        if ctx.request_state != "asked" or not answered(ctx, "confirm"):
            return needed("asked", confirm=elicit("Please confirm", ok="boolean"))
        return "state-ok"

    @mcp.tool(output_schema=None)
    async def test_input_required_result_tampered_state(ctx: Context):
        """Needs its state back as it was."""
        if ctx.request_state != "sealed":
            return needed("sealed", confirm=elicit("Please confirm", ok="boolean"))
        return "state-ok"

    @mcp.tool(output_schema=None)
    async def test_input_required_result_multiple_inputs(ctx: Context):
        """Needs three things at once."""
        asked = {
            "user_name": elicit("What is your name?", name="string"),
            "greeting": sample("Generate a greeting", most=50),
            "client_roots": roots(),
        }
        if ctx.request_state != "asked" or not answered(ctx, *asked):
            return needed("asked", **asked)
        return "All of it came"

    @mcp.tool(output_schema=None)
    async def test_input_required_result_multi_round(ctx: Context):
        """Needs two things, one after the other."""
        if ctx.request_state == "two" and answered(ctx, "step2"):
            return "Both came"
        if ctx.request_state == "one" and answered(ctx, "step1"):
            return needed(
                "two", step2=elicit("Step 2: What is your favorite color?", color="string")
            )
        return needed("one", step1=elicit("Step 1: What is your name?", name="string"))


def _by_capability(mcp):
    @mcp.tool(output_schema=None)
    async def test_input_required_result_capabilities(ctx: Context):
        """Asks for what the client says that it can do."""
        declared = ctx.request_context.session.client_params.capabilities
        asked = {}
        if declared.elicitation is not None:
            asked["name"] = elicit("What is your name?", name="string")
        if declared.sampling is not None:
            asked["greeting"] = sample("Generate a greeting")
        if not asked or answered(ctx, *asked):
            return "Nothing to ask"
        return needed(**asked)
