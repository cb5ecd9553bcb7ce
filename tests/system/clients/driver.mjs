// Runs clients of a TypeScript SDK as the test says: a line of JSON on stdin is a command, and the
// answer is a line of JSON on stdout. One process serves all tests, since Node takes its time to start.
//
// A command has `id`, `run` (a name below), `client` (the test's name for a client) and its arguments.
// The answer has the same `id`, and `result` or `error`. What a client hears between (progress,
// notifications) is a line with `client` and `heard`. Bearers come over stdin, never in argv.

import readline from "node:readline";

const clients = new Map();

const write = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

// What a program that uses the SDK could find out about an error.
function describe(error) {
  return {
    type: error.name === "Error" ? error.constructor.name : error.name,
    message: error.message,
    code: error.code,
    status: error.status ?? (typeof error.code === "number" && error.code > 0 ? error.code : undefined),
    data: error.data,
  };
}

// `fetch` as the SDK uses it, with a note of each exchange: this is what was on the wire.
function watchedFetch(exchanges) {
  return async (url, init) => {
    const headers = new Headers(init?.headers);
    const exchange = {
      method: init?.method ?? "GET",
      path: new URL(url).pathname,
      resumedFrom: headers.get("last-event-id"),
      region: headers.get("mcp-param-region"),
    };
    exchanges.push(exchange);
    const response = await fetch(url, init);
    exchange.status = response.status;
    exchange.challenge = response.headers.get("www-authenticate");
    return response;
  };
}

// An OAuth client's store, as a desktop application has one: perhaps a token, and nothing else yet.
const oauthStore = (bearer) => ({
  redirectUrl: "http://127.0.0.1:1/callback",
  clientMetadata: { client_name: "tests", redirect_uris: ["http://127.0.0.1:1/callback"] },
  tokens: () => (bearer == null ? undefined : { access_token: bearer, token_type: "Bearer" }),
  clientInformation: () => undefined,
  saveTokens: () => {},
  saveCodeVerifier: () => {},
  codeVerifier: () => "",
  redirectToAuthorization: () => {},
});

// The client answers what the server asks of it, or lets it wait.
const ANSWERS = {
  elicitation: (text) => ({ action: "accept", content: { value: text } }),
  sampling: (text) => ({ role: "assistant", model: "m", content: { type: "text", text } }),
};

async function connect(sdk, { client: name, url, bearer, oauth, mode, session, version, answer, waits }) {
  const exchanges = [];
  const transport = new sdk.Transport(new URL(url), {
    fetch: watchedFetch(exchanges),
    sessionId: session ?? undefined,
    protocolVersion: version ?? undefined,
    authProvider: oauth ? oauthStore(bearer) : undefined,
    requestInit: bearer == null || oauth ? {} : { headers: { Authorization: `Bearer ${bearer}` } },
    reconnectionOptions: {
      initialReconnectionDelay: 50, maxReconnectionDelay: 50, reconnectionDelayGrowFactor: 1, maxRetries: 2,
    },
  });
  const client = new sdk.Client({ name: "tests", version: "1" }, {
    capabilities: { elicitation: {}, sampling: {} }, ...sdk.options(mode),
  });
  for (const [kind, respond] of Object.entries(ANSWERS)) {
    client.setRequestHandler(sdk.requests[kind], async () => {
      write({ client: name, heard: { asked: kind } });
      return waits ? new Promise(() => {}) : respond(answer ?? "");
    });
  }
  client.setNotificationHandler(sdk.toolsChanged, () => write({ client: name, heard: { changed: "tools" } }));
  client.onerror = (error) => write({ client: name, heard: { failed: describe(error) } });
  clients.set(name, { client, transport, exchanges });
  if (session != null) transport.setProtocolVersion(version);
  await client.connect(transport);
  return {
    version: client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion,
    session: transport.sessionId,
    server: client.getServerVersion()?.name,
  };
}

const COMMANDS = {
  connect,
  // A method of the SDK's client, by its name.
  call: async (sdk, { client: name, method, params, progress, timeout }) => {
    const options = { timeout: timeout ?? 20_000 };
    if (progress) options.onprogress = (said) => write({ client: name, heard: { progress: said.progress } });
    return sdk.call(clients.get(name).client, method, params, options);
  },
  exchanges: async (_, { client }) => clients.get(client).exchanges,
  terminate: async (_, { client }) => clients.get(client).transport.terminateSession(),
  close: async (_, { client }) => clients.get(client)?.client.close(),
  // The metadata of RFC 9728, as the SDK finds it from the response to a request without a bearer.
  discover: async (sdk, { url }) => {
    const response = await fetch(url, { method: "POST", body: "{}", headers: { "Content-Type": "application/json" } });
    const { resourceMetadataUrl } = sdk.challengeIn(response);
    return sdk.metadataAt(url, { resourceMetadataUrl });
  },
};

// Reads commands until stdin ends. `sdk` has what differs between the generations of the SDK.
export function drive(sdk) {
  const lines = readline.createInterface({ input: process.stdin });
  lines.on("line", async (line) => {
    const { id, run, ...args } = JSON.parse(line);
    try {
      write({ id, result: (await COMMANDS[run](sdk, args)) ?? null });
    } catch (error) {
      write({ id, error: describe(error) });
    }
  });
  lines.on("close", () => process.exit(0));
}
