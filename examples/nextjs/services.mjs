// The API and the front end, each a process of its own, for start.mjs and the tests.
import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

const HERE = import.meta.dirname;
const PROJECT = join(HERE, "../..");
const VENV = process.env.VENV ?? join(PROJECT, ".venv");
const NEXT = join(HERE, "node_modules/next/dist/bin/next");
const PATIENCE_MS = 60_000;

const running = new Set();

/** Start the API on its SQLite file. It accepts the tokens, and the calls, of the front end at `origin`. */
export async function startApi({ port, origin, database, stdio }) {
  // Settings of a developer's shell or .env are for another API than this one.
  const env = {
    ...inherited(),
    FLASK_SKIP_DOTENV: "1",
    ENVIRONMENT: "development",
    DATABASE_URL: `sqlite:///${database}`,
    BETTER_AUTH_URL: origin,
    CORS_ORIGINS: origin,
    MCP_URL: `http://localhost:${port}/mcp`, // as lib/config.ts has it
  };
  mkdirSync(dirname(database), { recursive: true });
  const python = (...args) => start(join(VENV, "bin/python"), ["-m", ...args], { cwd: PROJECT, env, stdio });
  await ended(python("flask", "db", "upgrade"));
  const api = python("gunicorn", "wsgi:app", "--bind", `localhost:${port}`);
  await ready(api, `http://localhost:${port}/health/live`);
  return api;
}

/** Start the front end, with Better Auth in it. `command` is "dev", or "start" after `next build`. */
export async function startFrontEnd({ command, origin, apiUrl, database, secret, settings = {}, stdio }) {
  const env = {
    ...inherited(),
    NEXT_TELEMETRY_DISABLED: "1",
    BETTER_AUTH_URL: origin,
    BETTER_AUTH_SECRET: secret,
    AUTH_DATABASE: database,
    API_URL: apiUrl,
    ...settings,
  };
  mkdirSync(dirname(database), { recursive: true });
  const { hostname, port } = new URL(origin);
  const front = start(process.execPath, [NEXT, command, "-H", hostname, "-p", port], { cwd: HERE, env, stdio });
  await ready(front, `${origin}/api/auth/jwks`); // "dev" compiles it now, which the API would not wait for
  return front;
}

/** End a program that was started here, and wait for it. */
export async function stop(program) {
  if (!running.has(program)) return;
  const over = new Promise((resolve) => program.once("exit", resolve));
  program.kill("SIGTERM");
  await over;
}

export const stopAll = () => Promise.all([...running].map(stop));

function start(...command) {
  const program = spawn(...command);
  running.add(program);
  program.once("exit", () => running.delete(program));
  return program;
}

function inherited() {
  const names = ["PATH", "HOME", "LANG", "TMPDIR", "TERM"].filter((name) => process.env[name] !== undefined);
  return Object.fromEntries(names.map((name) => [name, process.env[name]]));
}

function ended(program) {
  return new Promise((resolve, reject) => {
    program.once("error", reject);
    program.once("exit", (code) => (code === 0 ? resolve() : reject(new Error("The database could not be made."))));
  });
}

async function ready(program, url) {
  for (const deadline = Date.now() + PATIENCE_MS; Date.now() < deadline; await pause(100)) {
    if (!running.has(program)) throw new Error(`What was to answer at ${url} has ended.`);
    const answer = await fetch(url).catch(() => undefined);
    if (answer?.ok) return;
  }
  await stop(program);
  throw new Error(`${url} did not answer.`);
}
