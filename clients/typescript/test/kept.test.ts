import assert from "node:assert/strict";
import { test } from "node:test";

import { TaskClient } from "@todo-api/client";

import { clientOf, proxy, SERVICE, someone, token } from "./support.js";

test("what has not changed is not sent again, and what has is", async (t) => {
  const between = await proxy(t);
  const tasks = clientOf(someone(), { baseUrl: between.url });
  const task = await tasks.create({ title: "Task" });
  const statuses = () => between.passed.splice(0).map(({ status }) => status);
  statuses();
  const first = await tasks.page({ limit: 1, include_total: true });
  first.tasks[0]!.title = "Changed by the caller";
  assert.deepEqual(await tasks.page({ limit: 1, include_total: true }), { ...first, tasks: [task] });
  assert.deepEqual(await tasks.list(), [task]);
  assert.deepEqual([await tasks.get(task.id), await tasks.get(task.id)], [task, task]);
  assert.deepEqual(statuses(), [200, 304, 200, 200, 304]);
  const changed = await tasks.update(task.id, { title: "Changed" });
  statuses();
  assert.deepEqual(await tasks.get(task.id), changed);
  assert.deepEqual((await tasks.page({ limit: 1, include_total: true })).tasks, [changed]);
  assert.deepEqual(statuses(), [200, 200]);
});

test("nobody is answered with what another was", async (t) => {
  const between = await proxy(t);
  const [alice, bob] = [someone(), someone()];
  const secret = await clientOf(alice).create({ title: "Secret" });
  const tokens = [token(alice), token(bob)];
  let now = 0;
  const tasks = new TaskClient({ baseUrl: between.url, getToken: () => Promise.resolve(tokens[now] ?? "") });
  assert.deepEqual(await tasks.list(), [secret]);
  assert.deepEqual(await tasks.get(secret.id), secret);
  now = 1;
  assert.deepEqual(await tasks.list(), []);
  await assert.rejects(tasks.get(secret.id), { code: "TASK_FORBIDDEN" });
  assert.deepEqual(between.passed.filter(({ headers }) => "if-none-match" in headers), []);
});

test("as much is kept as is allowed, the latest first", async (t) => {
  const between = await proxy(t);
  const user = someone();
  const owner = clientOf(user);
  const ids: string[] = [];
  for (let n = 0; n < 3; n += 1) ids.push((await owner.create({ title: "x", description: "y".repeat(1000) })).id);
  const [a = "", b = "", c = ""] = ids;
  const tasks = clientOf(user, { baseUrl: between.url, keepBytes: 5000 }); // room for two, with their tokens
  for (const id of [a, b, a, c, a, b]) await tasks.get(id);
  assert.deepEqual(between.passed.map(({ status }) => status), [200, 200, 304, 200, 304, 200]);
});

test("an answer larger than all that may be kept pushes nothing out", async (t) => {
  const between = await proxy(t);
  const user = someone();
  const [small, large] = ["s", "l".repeat(2000)];
  const { id } = await clientOf(user).create({ title: "Small", description: small });
  for (let n = 0; n < 3; n += 1) await clientOf(user).create({ title: "Large", description: large });
  const tasks = clientOf(user, { baseUrl: between.url, keepBytes: 5000 });
  await tasks.get(id);
  assert.equal((await tasks.list()).length, 4);
  await tasks.get(id);
  assert.deepEqual(between.passed.map(({ status }) => status), [200, 200, 304]);
});

test("many short answers take no more than is allowed either", async (t) => {
  const between = await proxy(t);
  const tasks = clientOf(someone(), { baseUrl: between.url, keepBytes: 100_000 });
  const words = Array.from({ length: 150 }, (_, n) => `${n}`);
  for (const q of [...words, ...words.slice(0, 1)]) assert.deepEqual(await tasks.list({ q }), []);
  assert.equal(between.passed.at(-1)?.status, 200); // each has headers, its token and its address: 0.8 KB
});

test("nothing is kept where a cache does it, nor where none is to", async (t) => {
  const between = await proxy(t);
  const user = someone();
  const node = globalThis.process;
  Reflect.set(globalThis, "process", undefined); // as in a browser
  const inBrowser = clientOf(user, { baseUrl: between.url });
  globalThis.process = node;
  const caches: RequestCache[] = [];
  const onServer = clientOf(user, {
    baseUrl: between.url,
    cache: "no-store",
    fetch: (request) => {
      caches.push(request.cache);
      return fetch(request);
    },
  });
  for (const tasks of [inBrowser, onServer]) for (const _ of [1, 2]) assert.deepEqual(await tasks.list(), []);
  assert.deepEqual(between.passed.map(({ status }) => status), [200, 200, 200, 200]);
  assert.ok(between.passed.every(({ headers }) => !("if-none-match" in headers)));
  assert.deepEqual(caches, ["no-store", "no-store"]);
});

test("what no cache is to store is kept in memory where that is asked for", async (t) => {
  const between = await proxy(t);
  const tasks = clientOf(someone(), { baseUrl: between.url, cache: "no-store", keepBytes: 5000 });
  for (const _ of [1, 2]) assert.deepEqual(await tasks.list(), []);
  assert.deepEqual(between.passed.map(({ status }) => status), [200, 304]);
});

test("the service is asked directly, too", async () => {
  assert.deepEqual(await new TaskClient({ baseUrl: `${SERVICE}/`, getToken: async () => token(someone()) }).list(), []);
});
