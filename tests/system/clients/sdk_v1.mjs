// The TypeScript SDK's first generation, @modelcontextprotocol/sdk: protocols up to 2025-11-25.

import {
  discoverOAuthProtectedResourceMetadata, extractWWWAuthenticateParams,
} from "@modelcontextprotocol/sdk/client/auth.js";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  CreateMessageRequestSchema, ElicitRequestSchema, ToolListChangedNotificationSchema,
} from "@modelcontextprotocol/sdk/types.js";

import { drive } from "./driver.mjs";

drive({
  Client,
  Transport: StreamableHTTPClientTransport,
  options: () => ({}),
  requests: { elicitation: ElicitRequestSchema, sampling: CreateMessageRequestSchema },
  toolsChanged: ToolListChangedNotificationSchema,
  // Of its methods, this one alone takes a schema before the options.
  call: (client, method, params, options) =>
    method === "callTool" ? client.callTool(params, undefined, options) : client[method](params, options),
  challengeIn: extractWWWAuthenticateParams,
  metadataAt: discoverOAuthProtectedResourceMetadata,
});
