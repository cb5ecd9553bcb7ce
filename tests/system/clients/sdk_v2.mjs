// The TypeScript SDK's second generation, @modelcontextprotocol/client: 2026-07-28 too, if told so.

import {
  Client, StreamableHTTPClientTransport, discoverOAuthProtectedResourceMetadata, extractWWWAuthenticateParams,
} from "@modelcontextprotocol/client";

import { drive } from "./driver.mjs";

drive({
  Client,
  Transport: StreamableHTTPClientTransport,
  options: (mode) => ({ versionNegotiation: { mode } }),
  requests: { elicitation: "elicitation/create", sampling: "sampling/createMessage" },
  toolsChanged: "notifications/tools/list_changed",
  call: (client, method, params, options) => client[method](params, options),
  challengeIn: extractWWWAuthenticateParams,
  metadataAt: discoverOAuthProtectedResourceMetadata,
});
