/** Settings of the server, read when it runs. */

export const apiUrl = () => process.env.API_URL ?? "http://localhost:8000";

/** The address that users give to their assistants; the API needs the same as MCP_URL. */
export const mcpUrl = () => process.env.MCP_URL ?? `${apiUrl()}/mcp`;

/** An assistant asks for a new token after this time. Until then one that was disconnected can go on. */
export const ASSISTANT_TOKEN_SECONDS = Number(process.env.ASSISTANT_TOKEN_SECONDS ?? 300);

/** How much longer the API accepts a token that has expired. */
export const LEEWAY_SECONDS = 10;
