// The official TypeScript clients as a program: a line of JSON in, a line of JSON out (tests/support/mcp_clients.py).
import readline from "node:readline";

const settings = JSON.parse(process.argv[2]);
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const write = (message) => console.log(JSON.stringify(message));
const read = async () => JSON.parse((await lines.next()).value ?? "null");

async function library() {
  if (settings.sdk !== 1) return import("@modelcontextprotocol/client");
  const modules = ["index", "streamableHttp", "auth"].map((name) => import(`@modelcontextprotocol/sdk/client/${name}.js`));
  return Object.assign({}, ...(await Promise.all(modules)));
}

const { Client, StreamableHTTPClientTransport, UnauthorizedError } = await library();
const memory = {};

// What the agent remembers of the authorization server.
const provider = {
  redirectUrl: settings.redirect,
  clientMetadata: {
    client_name: "TypeScript agent",
    redirect_uris: [settings.redirect],
    token_endpoint_auth_method: "none",
  },
  clientInformation: () => memory.client,
  saveClientInformation: (client) => { memory.client = client; },
  tokens: () => memory.tokens,
  saveTokens: (tokens) => { memory.tokens = tokens; },
  redirectToAuthorization: (url) => write({ authorize: url }),
  saveCodeVerifier: (verifier) => { memory.verifier = verifier; },
  codeVerifier: () => memory.verifier,
};

let transport;

// Do it with a token that the user grants: again after each authorization.
async function authorized(act) {
  for (;;) {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof UnauthorizedError)) throw error;
      const query = new URL((await read()).callback).searchParams;
      await transport.finishAuth(settings.sdk === 1 ? query.get("code") : query);
    }
  }
}

async function connect() {
  const headers = { Authorization: `Bearer ${settings.token}` };
  const options = settings.token ? { requestInit: { headers } } : { authProvider: provider };
  transport = new StreamableHTTPClientTransport(new URL(settings.url), options);
  const client = new Client(
    { name: "agent", version: "1.0.0" },
    settings.sdk === 1 ? {} : { versionNegotiation: { mode: settings.mode } },
  );
  await client.connect(transport);
  return client;
}

async function answerTo(client, message) {
  try {
    if (!message.tool) return { result: await client.listTools({ cursor: message.cursor }) };
    const call = { name: message.tool, arguments: message.arguments };
    return { result: await authorized(() => client.callTool(call)) };
  } catch (error) {
    if (typeof error.code !== "number") throw error;
    return { error: error.code };
  }
}

const client = await authorized(connect);
const version = settings.sdk === 1 ? transport.protocolVersion : client.getNegotiatedProtocolVersion();
write({ connected: version, token: memory.tokens?.access_token ?? null });
for (let message = await read(); message; message = await read()) write(await answerTo(client, message));
process.exit(0);
