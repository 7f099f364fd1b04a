// Starts the API, and the front end with Better Auth in it; ends both when either ends, or with Ctrl+C.
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { startApi, startFrontEnd, stop } from "./services.mjs";

const INSTANCE = join(import.meta.dirname, "instance");
const SECRET = join(INSTANCE, "secret");
const origin = `http://localhost:${process.env.PORT ?? 3000}`;
const apiPort = process.env.API_PORT ?? 8000;

mkdirSync(INSTANCE, { recursive: true });
if (!existsSync(SECRET)) writeFileSync(SECRET, randomBytes(32).toString("base64url"), { mode: 0o600 });

const programs = [];
const end = async (code) => {
  await Promise.all(programs.map(stop));
  process.exit(code);
};
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => end(0));

try {
  const stdio = "inherit";
  programs.push(await startApi({ port: apiPort, origin, database: join(INSTANCE, "tasks.db"), stdio }));
  const settings = { database: join(INSTANCE, "auth.db"), secret: readFileSync(SECRET, "utf-8") };
  const apiUrl = `http://localhost:${apiPort}`;
  programs.push(await startFrontEnd({ command: "dev", origin, apiUrl, ...settings, stdio }));
  for (const program of programs) program.once("exit", () => end(1));
  console.log(`\nSign up at ${origin}\n`);
} catch (error) {
  console.error(error.message);
  await end(1);
}
