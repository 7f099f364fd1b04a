/** The code of README.md as it stands there, with a page's own origin and the service where it says they are. */

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";

import { environmentManager, MutationObserver, QueryClient, QueryObserver } from "@tanstack/query-core";
import { newIdempotencyKey, type Task } from "@todo-api/client";

import { clientOf, seconds, SERVICE, someone, token } from "./support.js";

const keys: (string | null)[] = [];
const polls: { since: string | null; status: number }[] = [];
const real = globalThis.fetch;
let user = someone();
let losing = 0;

globalThis.fetch = async (input, init) => {
  if (input === "/api/auth/token") return Response.json({ token: token(user) });
  assert.ok(input instanceof Request);
  const answer = await real(new Request(input.url.replace("http://127.0.0.1:8000", SERVICE), input), init);
  const { pathname, searchParams } = new URL(input.url);
  if (pathname === "/api/tasks/changes") polls.push({ since: searchParams.get("since"), status: answer.status });
  if (input.method === "POST") keys.push(input.headers.get("Idempotency-Key"));
  if (input.method !== "POST" || losing-- <= 0) return answer;
  throw new TypeError("the answer was lost");
};

const { getToken, tasks } = await import("./readme/tasks.js");
const { taskCopy } = await import("./readme/copy.js");
const { createTask, taskList, toggleTask } = await import("./readme/queries.js");

beforeEach(() => {
  user = someone();
  getToken.forget();
  keys.length = polls.length = losing = 0;
});

test("the example works", async (t) => {
  const printed = mock.method(console, "log", () => undefined);
  t.after(() => printed.mock.restore());
  await import("./readme/example.js");
  const [milk, errors, cleared] = printed.mock.calls.map(({ arguments: [first] }) => first as unknown);
  assert.deepEqual([milk, cleared], ["Buy milk", 1]);
  assert.ok(Array.isArray(errors) && errors.length === 1);
});

test("the example of a copy works", async (t) => {
  const printed = mock.method(console, "log", () => undefined);
  t.after(() => printed.mock.restore());
  await import("./readme/keep.js");
  assert.deepEqual(printed.mock.calls.map(({ arguments: shown }) => shown as unknown[]), [[0, true]]);
});

test("a query that polls a copy shows what another client writes, and reads only that", async (t) => {
  environmentManager.setIsServer(() => false); // a server does not poll
  t.after(() => environmentManager.setIsServer(() => true));
  const queries = new QueryClient();
  const elsewhere = clientOf(user);
  const [first, second] = [await elsewhere.create({ title: "First" }), await elsewhere.create({ title: "Second" })];
  const list = new QueryObserver(queries, { ...taskCopy, refetchInterval: 20 });
  const shown: (readonly Task[])[] = [];
  t.after(list.subscribe(({ data }) => data && data !== shown.at(-1) && shown.push(data)));
  t.after(() => queries.clear()); // and its timers, which would keep the process alive
  const isShown = (expected: Task[]) => waitFor(() => isDeepStrictEqual(shown.at(-1), expected));
  await isShown([second, first]);
  const third = await elsewhere.create({ title: "Third" });
  await isShown([third, second, first]);
  await elsewhere.remove(second.id);
  await isShown([third, first]);
  assert.equal(shown.at(-1)?.[0], shown.at(-2)?.[0]); // the same object
  const changes = shown.length;
  polls.length = 0;
  await waitFor(() => polls.length > 2);
  assert.equal(shown.length, changes);
  assert.ok(polls.slice(1).every(({ since, status }) => since !== null && status === 304));
});

test("a mutation invalidates the copy, too", async (t) => {
  const queries = new QueryClient();
  const list = new QueryObserver(queries, { ...taskCopy, refetchInterval: false });
  t.after(list.subscribe(() => undefined));
  await waitFor(() => list.getCurrentResult().isSuccess);
  const create = new MutationObserver(queries, createTask(queries));
  const task = await create.mutate({ input: { title: "New" }, key: newIdempotencyKey() });
  await waitFor(() => isDeepStrictEqual(list.getCurrentResult().data, [task]));
  const toggle = new MutationObserver(queries, toggleTask(queries));
  const changed = await toggle.mutate(task);
  await waitFor(() => isDeepStrictEqual(list.getCurrentResult().data, [changed]));
  assert.deepEqual(polls.map(({ since }) => since === null), [true, false, false]);
});

test("a mutation that TanStack Query repeats creates one task", async () => {
  const queries = new QueryClient();
  const create = new MutationObserver(queries, { ...createTask(queries), retry: 1, retryDelay: 1 });
  losing = 4; // all that the client tries by itself, too
  const task = await create.mutate({ input: { title: "Once" }, key: newIdempotencyKey() });
  assert.deepEqual([keys.length, new Set(keys).size], [5, 1]);
  assert.deepEqual(await tasks.list(), [task]);
});

test("an optimistic change is seen at once, kept on success and taken back on failure", async (t) => {
  const queries = new QueryClient();
  const task = await tasks.create({ title: "Task" });
  const shown: (boolean | undefined)[] = [];
  const list = new QueryObserver(queries, taskList);
  t.after(list.subscribe(({ data }) => shown.push(data?.[0]?.is_completed)));
  assert.deepEqual(await queries.fetchQuery(taskList), [task]);
  const toggle = new MutationObserver(queries, toggleTask(queries));
  const seen = (): (boolean | undefined)[] => shown.filter((value, n) => value !== undefined && value !== shown[n - 1]);

  await toggle.mutate(task);
  assert.deepEqual(seen(), [false, true]);
  assert.equal(queries.getQueryData<Task[]>(taskList.queryKey)?.[0]?.is_completed, true);

  shown.length = 0;
  const current = await clientOf(user).update(task.id, { title: "Changed elsewhere" });
  await assert.rejects(toggle.mutate({ ...current, updated_at: task.updated_at }), { code: "PRECONDITION_FAILED" });
  assert.deepEqual(seen(), [false, true]);
  assert.deepEqual(queries.getQueryData(taskList.queryKey), [current]);
});

async function waitFor(isDone: () => boolean): Promise<void> {
  for (const began = performance.now(); !isDone(); await pause(10)) assert.ok(seconds(began) < 10, "waited in vain");
}
