import assert from "node:assert/strict";
import { test } from "node:test";

import { TaskApiError, type TaskClient } from "@todo-api/client";

import { clientOf, proxy, seconds, someone, unavailable } from "./support.js";

for (const lose of ["request", "answer", "end of answer"] as const) {
  test(`a creation that loses its ${lose} creates one task, with one key`, async (t) => {
    const between = await proxy(t, { lose }, { lose });
    const user = someone();
    const task = await clientOf(user, { baseUrl: between.url }).create({ title: "Once" });
    const keys = between.passed.map((request) => request.headers["idempotency-key"]);
    assert.equal(keys.length, 3);
    assert.equal(new Set(keys).size, 1);
    assert.deepEqual(await clientOf(user).list(), [task]);
  });
}

test("a caller's key makes one task of two calls, and each call without one makes its own", async () => {
  const tasks = clientOf(someone());
  const twice = [1, 2].map(() => tasks.create({ title: "Same" }, { idempotencyKey: "mine" }));
  const [first, second] = await Promise.all(twice);
  assert.deepEqual(first, second);
  await tasks.create({ title: "Same" });
  await tasks.create({ title: "Same" });
  assert.equal((await tasks.list()).length, 3);
});

test("503 is repeated after as long as it says, whatever the method", async (t) => {
  const calls: ((tasks: TaskClient, id: string) => Promise<unknown>)[] = [
    (tasks) => tasks.list(),
    (tasks) => tasks.create({ title: "Other" }),
    (tasks, id) => tasks.update(id, { title: "Changed" }),
    (tasks, id) => tasks.remove(id),
    (tasks) => tasks.markAll(true),
    (tasks) => tasks.clearCompleted(),
  ];
  const waits = calls.map(async (call) => {
    const user = someone();
    const { id } = await clientOf(user).create({ title: "Task" });
    const between = await proxy(t, unavailable("1"));
    const began = performance.now();
    await call(clientOf(user, { baseUrl: between.url }), id);
    assert.equal(between.passed.length, 2);
    assert.ok(seconds(began) >= 1 && seconds(began) < 10, `${seconds(began)} s`);
  });
  await Promise.all(waits);
});

test("503 that lasts, or asks to wait too long, is an error that says how long", async (t) => {
  const between = await proxy(t, ...Array.from({ length: 9 }, () => unavailable("0")));
  const tasks = clientOf(someone(), { baseUrl: between.url });
  await assert.rejects(tasks.list(), { code: "DATABASE_UNAVAILABLE", status: 503, retryAfter: 0 });
  assert.equal(between.passed.length, 4);
  between.faults.splice(0, 9, unavailable("31"), unavailable(new Date(Date.now() + 90_000).toUTCString()));
  await assert.rejects(tasks.list(), { code: "DATABASE_UNAVAILABLE", retryAfter: 31 });
  const dated = await tasks.list().catch((error: unknown) => error);
  assert.ok(dated instanceof TaskApiError && dated.retryAfter && dated.retryAfter > 85 && dated.retryAfter <= 90);
  assert.equal(between.passed.length, 6);
  for (const nonsense of ["soon", "-1", "1.5", ""]) between.faults.push(unavailable(nonsense));
  await assert.rejects(tasks.list(), { code: "DATABASE_UNAVAILABLE" });
  assert.equal(between.passed.length, 10);
  between.faults.push(unavailable("0"));
  await assert.rejects(clientOf(someone(), { baseUrl: between.url, retries: 0 }).list(), { status: 503 });
});

test("what a proxy lost is repeated where twice is the same as once, and nowhere else", async (t) => {
  const between = await proxy(t);
  const user = someone();
  const tasks = clientOf(user, { baseUrl: between.url });
  const task = await tasks.create({ title: "Task" });
  for (const fault of [{ lose: "request" as const }, { answer: { status: 502 } }, { answer: { status: 504 } }]) {
    between.passed.length = 0;
    between.faults.push(fault);
    await tasks.get(task.id);
    assert.equal(between.passed.length, 2);
    const update = (): Promise<unknown> => tasks.update(task.id, { title: "B" });
    for (const call of [update, () => tasks.markAll(true), () => tasks.clearCompleted()]) {
      between.passed.length = 0;
      between.faults.push(fault);
      await assert.rejects(call(), "lose" in fault ? TypeError : { code: "UNKNOWN", ...fault.answer });
      assert.equal(between.passed.length, 1);
    }
  }
  assert.deepEqual(await clientOf(user).list(), [task]);
});
