/** The stage: the real service, tokens for it, and a proxy in front that loses what it is told to lose. */

import { execFileSync } from "node:child_process";
import { createHmac, randomUUID } from "node:crypto";
import { createServer, request as forward, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, type TestContext } from "node:test";

import { TaskClient, type TaskClientOptions } from "@todo-api/client";

export const SERVICE = setting("TASKS_URL");
const SECRET = setting("TASKS_SECRET");

function setting(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: tests/openapi/test_typescript_client.py starts the service and sets it`);
  return value;
}

/** A name that no other test uses. */
export function someone(): string {
  return `user-${randomUUID()}`;
}

/** A token that the service takes, as long as `seconds` is positive. */
export function token(user: string, seconds = 900): string {
  const now = Math.floor(Date.now() / 1000);
  const parts = [{ alg: "HS256", typ: "JWT" }, { sub: user, iat: now, exp: now + seconds, jti: randomUUID() }];
  const signed = parts.map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

export function clientOf(user: string, options: Partial<TaskClientOptions> = {}): TaskClient {
  const kept = token(user);
  return new TaskClient({ baseUrl: SERVICE, getToken: () => Promise.resolve(kept), ...options });
}

/** Create tasks, some at once. */
export async function fill(tasks: TaskClient, count: number): Promise<void> {
  const titles = Array.from({ length: count }, (_, n) => `Task ${n}`).values();
  const createAll = async (): Promise<void> => {
    for (const title of titles) await tasks.create({ title });
  };
  await Promise.all(Array.from({ length: 8 }, createAll));
}

/** A `fetch` for which the service has small pages. */
export function inPagesOf(limit: number): (request: Request) => Promise<Response> {
  return (request) => {
    const url = new URL(request.url);
    url.searchParams.set("limit", `${limit}`);
    return fetch(new Request(url, request));
  };
}

/** Delete a user and their tasks, as an operator does. */
export function deleteUser(user: string): void {
  execFileSync("flask", ["user-delete", user, "--yes"], { cwd: new URL("../../../..", import.meta.url) });
}

export interface Passed {
  method: string;
  path: string;
  headers: IncomingHttpHeaders;
  /** What the service answered; undefined when the request never reached it. */
  status: number | undefined;
}

/** What the proxy does to a request: any of these, in this order. */
export interface Fault {
  delay?: number;
  /** Answer this without asking the service. */
  answer?: { status: number; headers?: Record<string, string>; body?: string };
  /** Lose the request on the way, the answer on its way back, or the end of the answer. */
  lose?: "request" | "answer" | "end of answer";
  /** Happens after the service has answered and before the client knows. */
  meanwhile?: () => Promise<unknown>;
}

/** What the service answers without its database. */
export const unavailable = (wait: string): Fault => ({
  answer: {
    status: 503,
    headers: { "Content-Type": "application/json", "Retry-After": wait },
    body: '{"detail": "Away.", "error_code": "DATABASE_UNAVAILABLE", "status_code": 503}',
  },
});

export interface Proxy {
  url: string;
  passed: Passed[];
  /** What happens to the next requests, one each; later ones pass unharmed. */
  faults: Fault[];
}

export async function proxy(t: TestContext, ...faults: Fault[]): Promise<Proxy> {
  const passed: Passed[] = [];
  const server = createServer((incoming, outgoing) => {
    const chunks: Buffer[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("end", () => {
      const seen: Passed = {
        method: incoming.method ?? "",
        path: incoming.url ?? "",
        headers: incoming.headers,
        status: undefined,
      };
      passed.push(seen);
      pass(seen, Buffer.concat(chunks), faults.shift() ?? {}, outgoing).catch(() => outgoing.destroy());
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, passed, faults };
}

async function pass(seen: Passed, body: Buffer, fault: Fault, outgoing: ServerResponse): Promise<void> {
  if (fault.delay) await new Promise((resolve) => setTimeout(resolve, fault.delay).unref());
  if (fault.lose === "request") return void outgoing.destroy();
  if (fault.answer) return void outgoing.writeHead(fault.answer.status, fault.answer.headers).end(fault.answer.body);
  const answer = await ask(seen, body);
  seen.status = answer.status;
  await fault.meanwhile?.();
  if (fault.lose === "answer") return void outgoing.destroy();
  outgoing.writeHead(answer.status, answer.headers);
  if (fault.lose !== "end of answer") return void outgoing.end(answer.body);
  outgoing.write(answer.body.subarray(0, 10), () => setTimeout(() => outgoing.destroy(), 20));
}

function ask(seen: Passed, body: Buffer): Promise<{ status: number; headers: IncomingHttpHeaders; body: Buffer }> {
  const { method, path, headers } = seen;
  return new Promise((resolve, reject) => {
    const asked = forward(SERVICE + path, { method, headers: { ...headers, connection: "close" } }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on("data", (chunk: Buffer) => chunks.push(chunk));
      const { connection: _, ...kept } = answer.headers;
      answer.on("end", () => resolve({ status: answer.statusCode ?? 0, headers: kept, body: Buffer.concat(chunks) }));
    });
    asked.on("error", reject);
    asked.end(body);
  });
}

export function seconds(since: number): number {
  return (performance.now() - since) / 1000;
}

// A promise that nobody waits for is a defect of the client.
const unhandled: unknown[] = [];
process.on("unhandledRejection", (reason) => unhandled.push(reason));
after(() => {
  if (unhandled.length > 0) throw new AggregateError(unhandled, "a rejection was not handled");
});
