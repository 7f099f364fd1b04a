/** The code of README.md as it stands there, with a page's own origin and the service where it says they are. */

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { MutationObserver, QueryClient, QueryObserver } from "@tanstack/query-core";
import { newIdempotencyKey, type Task } from "@todo-api/client";

import { clientOf, SERVICE, someone, token } from "./support.js";

const keys: (string | null)[] = [];
const real = globalThis.fetch;
let user = someone();
let losing = 0;

globalThis.fetch = async (input, init) => {
  if (input === "/api/auth/token") return Response.json({ token: token(user) });
  assert.ok(input instanceof Request);
  const answer = await real(new Request(input.url.replace("http://127.0.0.1:8000", SERVICE), input), init);
  if (input.method === "POST") keys.push(input.headers.get("Idempotency-Key"));
  if (input.method !== "POST" || losing-- <= 0) return answer;
  throw new TypeError("the answer was lost");
};

const { getToken, tasks } = await import("./readme/tasks.js");
const { createTask, taskList, toggleTask } = await import("./readme/queries.js");

beforeEach(() => {
  user = someone();
  getToken.forget();
  keys.length = losing = 0;
});

test("the example works", async (t) => {
  const printed = mock.method(console, "log", () => undefined);
  t.after(() => printed.mock.restore());
  await import("./readme/example.js");
  const [milk, errors, cleared] = printed.mock.calls.map(({ arguments: [first] }) => first as unknown);
  assert.deepEqual([milk, cleared], ["Buy milk", 1]);
  assert.ok(Array.isArray(errors) && errors.length === 1);
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
