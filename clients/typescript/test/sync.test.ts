import assert from "node:assert/strict";
import { test } from "node:test";

import { type ErrorCode, type TaskClient, type TaskCopy } from "@todo-api/client";

import { clientOf, deleteUser, fill, inPagesOf, proxy, type Proxy, someone, unavailable } from "./support.js";

const statuses = (between: Proxy): (number | undefined)[] => between.passed.splice(0).map(({ status }) => status);

test("a response of the feed has what changed and what was deleted", async () => {
  const tasks = clientOf(someone());
  const [milk, bread] = [await tasks.create({ title: "Milk" }), await tasks.create({ title: "Bread" })];
  const first = await tasks.changes();
  assert.deepEqual({ ...first, next: "" }, { tasks: [milk, bread], deleted: [], next: "", has_more: false });
  const changed = await tasks.update(milk.id, { title: "Oat milk" });
  await tasks.remove(bread.id);
  const later = await tasks.changes(first.next);
  assert.deepEqual([later.tasks, later.deleted, later.has_more], [[changed], [bread.id], false]);
  const part = await tasks.changes(first.next, { limit: 1 });
  assert.deepEqual([part.tasks, part.deleted, part.has_more], [[], [bread.id], true]);
  assert.deepEqual((await tasks.changes(part.next, { limit: 1 })).tasks, [changed]);
  await assert.rejects(tasks.changes("broken"), { code: "VALIDATION_ERROR" });
});

test("a copy follows what another client writes, and is equal to the list", async () => {
  const user = someone();
  const [here, elsewhere] = [clientOf(user), clientOf(user)];
  let copy = await here.sync();
  assert.equal(copy.tasks.length, 0);
  const follow = async (): Promise<void> => {
    const [before, text] = [copy, JSON.stringify(copy)];
    copy = await here.sync(before);
    assert.deepEqual(copy.tasks, await elsewhere.list());
    assert.notEqual(copy, before);
    assert.equal(JSON.stringify(before), text);
    copy = JSON.parse(JSON.stringify(copy)) as TaskCopy; // as if it had been stored
  };
  await fill(elsewhere, 5);
  await follow();
  const [first, second, ...others] = copy.tasks;
  await elsewhere.update(first!.id, { title: "Changed" });
  await elsewhere.remove(second!.id);
  await elsewhere.create({ title: "New" });
  await follow();
  assert.equal(await elsewhere.markAll(true), 5);
  await follow();
  await elsewhere.update(others[0]!.id, { is_completed: false });
  assert.equal(await elsewhere.clearCompleted(), 4);
  await follow();
  assert.equal(copy.tasks.length, 1);
});

test("an update has each change once, and says whether it is the whole", async () => {
  const user = someone();
  const [writer, reader] = [clientOf(user), clientOf(user, { fetch: inPagesOf(2) })];
  await fill(writer, 5);
  const first = await reader.changesSince();
  assert.deepEqual([first.tasks.length, first.deleted, first.isWhole], [5, [], true]);
  const [milk, bread] = first.tasks;
  const changed = await writer.update(milk!.id, { title: "Oat milk" });
  await writer.remove(bread!.id);
  const later = await reader.changesSince(first.next);
  assert.deepEqual({ ...later, next: "" }, { tasks: [changed], deleted: [bread!.id], next: "", isWhole: false });
  const again = await reader.changesSince("broken");
  assert.deepEqual([again.tasks.length, again.isWhole], [4, true]);
});

test("a copy kept by small pages while others write ends equal to the list", async () => {
  const user = someone();
  const [writer, reader] = [clientOf(user), clientOf(user, { fetch: inPagesOf(3) })];
  await fill(writer, 10);
  let copy = await reader.sync();
  const write = async (): Promise<void> => {
    for (let n = 0; n < 20; n += 1) {
      const task = await writer.create({ title: `New ${n}`, is_completed: n % 2 === 0 });
      if (n % 3 === 0) await writer.update(task.id, { title: "Changed" });
      if (n % 4 === 0) await writer.remove(task.id);
      if (n % 7 === 0) await writer.markAll(true);
      if (n === 15) await writer.clearCompleted();
    }
  };
  const read = async (): Promise<void> => {
    for (let n = 0; n < 20; n += 1) copy = await reader.sync(copy);
  };
  await Promise.all([write(), read()]);
  copy = await reader.sync(copy);
  assert.deepEqual(copy.tasks, await writer.list());
});

test("an unchanged copy stays the same object, and costs no body", async (t) => {
  const between = await proxy(t);
  const user = someone();
  const tasks = clientOf(user, { baseUrl: between.url });
  await fill(clientOf(user), 2);
  const copy = await tasks.sync();
  for (let n = 0; n < 3; n += 1) assert.equal(await tasks.sync(copy), copy);
  assert.deepEqual(statuses(between), [200, 200, 304, 304]);
  const task = await clientOf(user).create({ title: "New" });
  const later = await tasks.sync(copy);
  assert.deepEqual(later.tasks, [task, ...copy.tasks]);
  for (const kept of copy.tasks) assert.ok(later.tasks.includes(kept)); // the same objects
  assert.deepEqual(statuses(between), [200]);
});

test("a copy of more than 1000 tasks takes several requests", async (t) => {
  const between = await proxy(t);
  const user = someone();
  const tasks = clientOf(user, { baseUrl: between.url });
  await fill(clientOf(user), 1001);
  const copy = await tasks.sync();
  assert.deepEqual(statuses(between), [200, 200]);
  assert.deepEqual(copy.tasks, await tasks.list());
  assert.equal(await clientOf(user).markAll(true), 1001);
  statuses(between);
  const completed = await tasks.sync(copy);
  assert.deepEqual(statuses(between), [200, 200]);
  assert.equal(completed.tasks.filter(({ is_completed }) => is_completed).length, 1001);
});

test("a copy that has expired is made anew", async (t) => {
  const between = await proxy(t);
  const user = someone();
  const tasks = clientOf(user, { baseUrl: between.url });
  await fill(tasks, 3);
  let copy = await tasks.sync();
  deleteUser(user);
  statuses(between);
  await assert.rejects(tasks.changes(copy.next), { code: "CHANGES_EXPIRED" satisfies ErrorCode, status: 410 });
  copy = await tasks.sync(copy);
  assert.deepEqual(copy.tasks, []);
  await fill(clientOf(user), 2);
  assert.deepEqual((await tasks.sync(copy)).tasks, await clientOf(user).list());
  assert.deepEqual(statuses(between), [410, 410, 200, 200]);
});

const expired = {
  status: 410,
  headers: { "Content-Type": "application/json" },
  body: '{"detail": "Begin again.", "error_code": "CHANGES_EXPIRED", "status_code": 410}',
};

test("a copy that expires between two pages is made anew, and a service that cannot make one is an error", async (t) => {
  const { between, tasks, copy } = await outdated(t, someone());
  between.faults.push({}, { answer: expired });
  assert.deepEqual((await tasks.sync(copy)).tasks, await tasks.list());
  between.passed.length = 0;
  between.faults.push({ answer: expired }, { answer: expired });
  await assert.rejects(tasks.sync(copy), { code: "CHANGES_EXPIRED" });
  assert.equal(between.passed.length, 2);
});

test("another user's copy is replaced, and never mixed with one's own", async () => {
  const [alice, bob] = [clientOf(someone()), clientOf(someone())];
  await fill(alice, 3);
  const task = await bob.create({ title: "Bob's" });
  assert.deepEqual((await bob.sync(await alice.sync())).tasks, [task]);
});

test("a failure between two pages throws, and the copy can be used again", async (t) => {
  const { between, tasks, copy } = await outdated(t, someone());
  const text = JSON.stringify(copy);
  between.faults.push({}, unavailable("60"));
  await assert.rejects(tasks.sync(copy), { code: "DATABASE_UNAVAILABLE" });
  assert.equal(JSON.stringify(copy), text);
  between.passed.length = 0;
  assert.deepEqual((await tasks.sync(copy)).tasks, await tasks.list());
});

test("an abort between two pages throws its reason, and the copy can be used again", async (t) => {
  const { between, tasks, copy } = await outdated(t, someone());
  const text = JSON.stringify(copy);
  const [stop, reason] = [new AbortController(), new Error("The user left.")];
  between.faults.push({}, { meanwhile: async () => stop.abort(reason) });
  between.passed.length = 0;
  await assert.rejects(tasks.sync(copy, { signal: stop.signal }), (error) => error === reason);
  assert.equal(between.passed.length, 2);
  assert.equal(JSON.stringify(copy), text);
  assert.deepEqual((await tasks.sync(copy)).tasks, await tasks.list());
});

/** A copy that is behind by several pages of the feed. */
async function outdated(
  t: Parameters<typeof proxy>[0],
  user: string,
): Promise<{ between: Proxy; tasks: TaskClient; copy: TaskCopy }> {
  const between = await proxy(t);
  const tasks = clientOf(user, { baseUrl: between.url, fetch: inPagesOf(2) });
  await fill(clientOf(user), 3);
  const copy = await tasks.sync();
  const [first] = copy.tasks;
  await clientOf(user).remove(first!.id);
  await fill(clientOf(user), 4);
  await clientOf(user).markAll(true);
  return { between, tasks, copy };
}
