import assert from "node:assert/strict";
import { test } from "node:test";

import { clientOf, proxy, someone } from "./support.js";

test("a conditional update whose answer is lost is a success, done once", async (t) => {
  const between = await proxy(t);
  const tasks = clientOf(someone(), { baseUrl: between.url });
  const before = await tasks.create({ title: "Old" });
  between.faults.push({ lose: "answer" });
  between.passed.length = 0;
  const changes = { title: "  New ", description: null, is_completed: true };
  const after = await tasks.update(before.id, changes, { ifMatch: before.updated_at });
  const passed = between.passed.map(({ method, status }) => `${method} ${status}`);
  assert.deepEqual(passed, ["PATCH 200", "PATCH 412", "GET 200"]);
  const now = after.updated_at;
  assert.deepEqual(after, { ...before, title: "New", is_completed: true, completed_at: now, updated_at: now });
  assert.deepEqual(await tasks.get(before.id), after);
});

test("a conditional update of any one field whose answer is lost is known as done", async (t) => {
  const between = await proxy(t);
  const tasks = clientOf(someone(), { baseUrl: between.url });
  const dated = [{ due_date: "2026-02-14" }, { priority: "low" as const }, { tags: ["home", "new"] }];
  for (const changes of [{ title: "New" }, { description: "New" }, { is_completed: true }, ...dated]) {
    const before = await tasks.create({ title: "Old" });
    between.faults.push({ lose: "answer" });
    const after = await tasks.update(before.id, changes, { ifMatch: before.updated_at });
    const completed_at = after.is_completed ? after.updated_at : null;
    assert.deepEqual(after, { ...before, ...changes, completed_at, updated_at: after.updated_at });
  }
});

test("a conditional update that another's change got ahead of is refused, repeated or not", async (t) => {
  const between = await proxy(t);
  const user = someone();
  const [here, elsewhere] = [clientOf(user, { baseUrl: between.url }), clientOf(user)];
  const task = await here.create({ title: "Old" });
  between.faults.push({ lose: "answer", meanwhile: () => elsewhere.update(task.id, { title: "Theirs" }) });
  const update = here.update(task.id, { title: "Mine" }, { ifMatch: task.updated_at });
  await assert.rejects(update, { code: "PRECONDITION_FAILED" });
  assert.equal((await here.get(task.id)).title, "Theirs");

  // What the task says already is not this call's doing unless an attempt of it may have been done.
  const again = (): Promise<unknown> => here.update(task.id, { title: "Theirs" }, { ifMatch: task.updated_at });
  await assert.rejects(again(), { code: "PRECONDITION_FAILED" });
  between.faults.push({ answer: { status: 429, headers: { "Retry-After": "0" } } });
  await assert.rejects(again(), { code: "PRECONDITION_FAILED" });
  between.faults.push({ lose: "request" });
  await assert.rejects(here.update(task.id, {}, { ifMatch: task.updated_at }), { code: "PRECONDITION_FAILED" });
});

test("a removal whose answer is lost is a success, and one of a missing task is not", async (t) => {
  const between = await proxy(t);
  const tasks = clientOf(someone(), { baseUrl: between.url });
  for (const conditional of [true, false]) {
    const task = await tasks.create({ title: "Task" });
    const options = conditional ? { ifMatch: task.updated_at } : {};
    between.faults.push({ lose: "answer" });
    between.passed.length = 0;
    await tasks.remove(task.id, options);
    assert.deepEqual(between.passed.map(({ status }) => status), [204, 404]);
    await assert.rejects(tasks.remove(task.id, options), { code: "TASK_NOT_FOUND" });
  }
});

test("a repeated conditional removal of what another changed is refused", async (t) => {
  const between = await proxy(t);
  const user = someone();
  const tasks = clientOf(user, { baseUrl: between.url });
  const task = await tasks.create({ title: "Task" });
  await clientOf(user).update(task.id, { title: "Changed" });
  between.faults.push({ lose: "request" });
  await assert.rejects(tasks.remove(task.id, { ifMatch: task.updated_at }), { code: "PRECONDITION_FAILED" });
});
