// Starts the API, and the front end with Better Auth in it; ends both when either ends, or with Ctrl+C.
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";

import { startApi, startFrontEnd, stopAll } from "./services.mjs";

const { PORT = "3000", API_PORT = "8000" } = process.env;
const INSTANCE = join(import.meta.dirname, "instance");
const SECRET = join(INSTANCE, "secret");

async function mustBeFree(name, port) {
  if (!/^\d+$/.test(port)) throw new Error(`${name} is to be a number, as in make start ${name}=3042`);
  const server = createServer().listen(port, "localhost");
  await once(server, "listening").catch(() => {
    throw new Error(`Port ${port} is in use: choose another, as in make start ${name}=${Number(port) + 42}`);
  });
  server.close();
}

let isEnding = false;
async function end(code) {
  if (isEnding) return;
  isEnding = true;
  await stopAll();
  process.exit(code);
}
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => end(0));

try {
  await mustBeFree("PORT", PORT);
  await mustBeFree("API_PORT", API_PORT);
  mkdirSync(INSTANCE, { recursive: true });
  if (!existsSync(SECRET)) writeFileSync(SECRET, randomBytes(32).toString("base64url"), { mode: 0o600 });

  const stdio = "inherit";
  const origin = `http://localhost:${PORT}`;
  const apiUrl = `http://localhost:${API_PORT}`;
  const secret = readFileSync(SECRET, "utf-8");
  const api = await startApi({ port: API_PORT, origin, database: join(INSTANCE, "tasks.db"), stdio });
  const database = join(INSTANCE, "auth.db");
  const front = await startFrontEnd({ command: "dev", origin, apiUrl, database, secret, stdio });
  for (const program of [api, front]) program.once("exit", () => end(1));
  console.log(`\nSign up at ${origin}\n`);
} catch (error) {
  console.error(error.message);
  await end(1);
}
