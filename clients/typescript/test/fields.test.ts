/** Due dates, priorities and tags, and programs that never heard of them. */

import assert from "node:assert/strict";
import { test } from "node:test";

import type { ListQuery, Task } from "@todo-api/client";

import { clientOf, proxy, someone } from "./support.js";

const NEW = { due_date: "2026-02-14", priority: "high", tags: ["home", "é &"] } as const;
const query: ListQuery = { priority: "high", tag: ["é &", "home"], due_from: "2026-02-14", due_to: "2026-02-14" };

test("tasks are found by due date, priority and tags", async () => {
  const tasks = clientOf(someone());
  const milk = await tasks.create({ title: "Milk", ...NEW, tags: [...NEW.tags] });
  const later = await tasks.create({ title: "Later", ...NEW, tags: ["home"], due_date: "2026-02-15" });
  const someday = await tasks.create({ title: "Someday" });
  assert.deepEqual([milk.due_date, milk.priority, milk.tags], [NEW.due_date, NEW.priority, NEW.tags]);
  assert.deepEqual([someday.due_date, someday.priority, someday.tags, someday.completed_at], [null, null, [], null]);
  assert.deepEqual(await tasks.list(query), [milk]);
  assert.deepEqual(await tasks.list({ tag: ["home"], sort: "-due_date" }), [later, milk]);
  assert.deepEqual(await tasks.list({ priority: "none" }), [someday]);
  const met: Task[] = [];
  for await (const task of tasks.all({ sort: "due_date", limit: 1 })) met.push(task);
  assert.deepEqual(met, [milk, later, someday]);
  const done = await tasks.update(milk.id, { ...milk, is_completed: true, due_date: null, tags: [] });
  assert.deepEqual([done.completed_at, done.due_date, done.tags], [done.updated_at, null, []]);
  // @ts-expect-error: no such priority
  await assert.rejects(tasks.update(milk.id, { priority: "urgent" }), { code: "VALIDATION_ERROR" });
});

test("an update of tags whose answer is lost is recognized", async (t) => {
  const between = await proxy(t);
  const tasks = clientOf(someone(), { baseUrl: between.url });
  const milk = await tasks.create({ title: "Milk" });
  between.faults.push({ lose: "answer" });
  const changes = { ...milk, tags: [" home ", "home"], is_completed: true };
  const changed = await tasks.update(milk.id, changes, { ifMatch: milk.updated_at });
  assert.deepEqual([changed.tags, changed.is_completed], [["home"], true]);
});

/** A task as a program reads it that was written before the fields came. */
type OldTask = Omit<Task, "completed_at" | "due_date" | "priority" | "tags">;

function asBefore({ completed_at, due_date, priority, tags, ...old }: Task): OldTask {
  return old;
}

test("a program that never heard of the fields keeps working, and keeps what others wrote", async (t) => {
  const between = await proxy(t);
  const user = someone();
  const [old, other] = [clientOf(user, { baseUrl: between.url }), clientOf(user)];
  const bread: OldTask = asBefore(await old.create({ title: "Bread", description: null, is_completed: false }));
  const milk: OldTask = asBefore(await other.create({ title: "Milk", ...NEW, tags: [...NEW.tags] }));
  assert.deepEqual((await old.list({ is_completed: false, q: "mil", sort: "-title" })).map(asBefore), [milk]);
  assert.deepEqual((await old.page({ limit: 1, include_total: true })).total, 2);

  const sentBack = await old.update(milk.id, { ...milk, title: "Oat milk" }, { ifMatch: milk.updated_at });
  assert.deepEqual(asBefore(sentBack), { ...milk, title: "Oat milk", updated_at: sentBack.updated_at });
  between.faults.push({ lose: "answer" });
  const toggled = await old.update(milk.id, { is_completed: true }, { ifMatch: sentBack.updated_at });
  const { due_date, priority, tags, completed_at } = await other.get(milk.id);
  assert.deepEqual({ due_date, priority, tags, completed_at }, { ...NEW, completed_at: toggled.updated_at });

  const retried = await old.create({ title: "Eggs" }, { idempotencyKey: "eggs" });
  const again = await old.create({ title: "Eggs", description: null, is_completed: false }, { idempotencyKey: "eggs" });
  assert.deepEqual(asBefore(again), asBefore(retried));
  assert.equal(await old.markAll(true), 2);
  assert.equal(await old.clearCompleted(), 3);
  await assert.rejects(old.get(bread.id), { code: "TASK_NOT_FOUND" });
});
