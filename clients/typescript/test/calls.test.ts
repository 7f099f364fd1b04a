import assert from "node:assert/strict";
import { test } from "node:test";

import { type ErrorCode, TaskApiError } from "@todo-api/client";

import { clientOf, fill, inPagesOf, proxy, someone } from "./support.js";

test("every route has a method", async () => {
  const tasks = clientOf(someone());
  const milk = await tasks.create({ title: " Buy milk ", description: "2 l" });
  assert.equal(milk.title, "Buy milk");
  assert.deepEqual(await tasks.get(milk.id), milk);
  const bread = await tasks.create({ title: "Buy bread" });
  assert.deepEqual(await tasks.list(), [bread, milk]);
  assert.deepEqual(await tasks.list({ q: "MILK", sort: "title" }), [milk]);
  const page = await tasks.page({ limit: 1, include_total: true });
  assert.deepEqual([page.tasks, page.total], [[bread], 2]);
  assert.deepEqual(await tasks.page({ cursor: page.nextCursor ?? "", limit: 1 }), {
    tasks: [milk],
    nextCursor: undefined,
    total: undefined,
  });
  const changed = await tasks.update(milk.id, { title: "Buy oat milk" }, { ifMatch: milk.updated_at });
  assert.deepEqual(changed, { ...milk, title: "Buy oat milk", updated_at: changed.updated_at });
  assert.equal(await tasks.markAll(true), 2);
  assert.equal(await tasks.markAll(false), 2);
  await tasks.update(bread.id, { is_completed: true });
  assert.equal(await tasks.clearCompleted(), 1);
  await tasks.remove(milk.id);
  assert.deepEqual(await tasks.list(), []);
});

test("a walk through the pages meets each task once while others are created", async () => {
  const tasks = clientOf(someone());
  for (let n = 0; n < 25; n += 1) await tasks.create({ title: `Task ${n}` });
  const met: string[] = [];
  for await (const task of tasks.all({ limit: 10 })) {
    met.push(task.title);
    if (met.length % 8 === 0) await tasks.create({ title: "Later" });
  }
  assert.deepEqual(met, Array.from({ length: 25 }, (_, n) => `Task ${24 - n}`));
});

test("a walk without a limit goes page by page", async (t) => {
  const between = await proxy(t);
  const tasks = clientOf(someone(), { baseUrl: between.url });
  await tasks.create({ title: "Task" });
  for (const query of [{}, { limit: undefined } as {}]) for await (const task of tasks.all(query)) assert.ok(task);
  assert.deepEqual(between.passed.slice(1).map(({ path }) => path), ["/api/tasks?limit=100", "/api/tasks?limit=100"]);
});

test("a list of more than 1000 tasks is read to its end, and costs no body while nothing changes", async (t) => {
  const between = await proxy(t);
  const user = someone();
  const tasks = clientOf(user, { baseUrl: between.url });
  await fill(clientOf(user), 1001);
  const all = await tasks.list();
  assert.equal(new Set(all.map(({ id }) => id)).size, 1001);
  assert.deepEqual(all, [...all].sort((a, b) => (a.created_at < b.created_at ? 1 : -1)));
  assert.deepEqual(await tasks.list(), all);
  assert.deepEqual(between.passed.map(({ status }) => status), [200, 200, 304, 304]);
  const byTitle = (await tasks.list({ is_completed: false, sort: "title" })).map(({ title }) => title);
  assert.deepEqual(byTitle, all.map(({ title }) => title).sort());
});

test("a task that is changed while a list is read is there once, in its new place", async (t) => {
  const user = someone();
  for (let n = 0; n < 4; n += 1) await clientOf(user).create({ title: `Task ${n}` });
  const between = await proxy(t);
  const tasks = clientOf(user, { baseUrl: between.url, fetch: inPagesOf(2) });
  const [first] = await clientOf(user).list({ sort: "updated_at" });
  assert.ok(first);
  between.faults.push({ meanwhile: () => clientOf(user).update(first.id, { title: "Changed" }) });
  const read = await tasks.list({ sort: "updated_at" });
  assert.deepEqual(read.map(({ title }) => title), ["Task 1", "Task 2", "Task 3", "Changed"]);
  assert.equal(between.passed.length, 3);
});

test("a list whose second page fails is an error and no part of a list", async (t) => {
  const user = someone();
  await fill(clientOf(user), 3);
  const answer = { status: 500, body: '{"detail": "A bug.", "error_code": "INTERNAL_ERROR", "status_code": 500}' };
  const between = await proxy(t, {}, { answer });
  const tasks = clientOf(user, { baseUrl: between.url, fetch: inPagesOf(2) });
  assert.equal((await caught(tasks.list())).code, "INTERNAL_ERROR");
});

test("whatever stands where an id should is no other address", async (t) => {
  const between = await proxy(t);
  const user = someone();
  await clientOf(user).create({ title: "Task", is_completed: true });
  const tasks = clientOf(user, { baseUrl: between.url });
  const addresses = ["?is_completed=true", "../tasks?is_completed=1", "x/../../tasks"];
  for (const id of [...addresses, "#", "%2e%2e", "é;$&", "{id}"]) {
    for (const call of [() => tasks.get(id), () => tasks.update(id, { title: "x" }), () => tasks.remove(id)]) {
      assert.match((await caught(call())).code, /NOT_FOUND$/);
    }
  }
  assert.equal((await caught(tasks.get("changes"))).code, "TASK_NOT_FOUND"); // a route, which only GET has
  for (const call of [() => tasks.update("changes", { title: "x" }), () => tasks.remove("changes")]) {
    assert.equal((await caught(call())).code, "METHOD_NOT_ALLOWED");
  }
  for (const id of ["", ".", ".."]) assert.equal((await caught(tasks.remove(id))).code, "NOT_FOUND");
  assert.equal((await clientOf(user).list()).length, 1);
});

test("a walk asks for a page only when it is needed, and keeps to its parameters", async (t) => {
  const between = await proxy(t);
  const tasks = clientOf(someone(), { baseUrl: between.url });
  for (let n = 0; n < 3; n += 1) await tasks.create({ title: `Task ${n}`, is_completed: n !== 1 });
  between.passed.length = 0;
  for await (const task of tasks.all({ limit: 1, is_completed: true, sort: "title" })) {
    assert.equal(task.title, "Task 0");
    break;
  }
  assert.equal(between.passed.length, 1);
  const titles: string[] = [];
  for await (const task of tasks.all({ limit: 1, is_completed: true, sort: "title" })) titles.push(task.title);
  assert.deepEqual(titles, ["Task 0", "Task 2"]);
});

test("an error says what was wrong with which field", async () => {
  const tasks = clientOf(someone());
  const error = await caught(tasks.create({ title: "  " }));
  assert.deepEqual([error.code, error.status], ["VALIDATION_ERROR", 400]);
  assert.deepEqual(Object.keys(error.errors), ["title"]);
  assert.match(error.requestId ?? "", /^[A-Za-z0-9._-]+$/);
  assert.ok(error.message);
  // @ts-expect-error: the codes are those of the service
  assert.notEqual(error.code, "NO_SUCH_CODE" satisfies ErrorCode);
});

test("errors are told apart by their code", async () => {
  const [alice, bob] = [clientOf(someone()), clientOf(someone())];
  const { id } = await alice.create({ title: "Alice's" }, { idempotencyKey: "once" });
  assert.equal((await caught(bob.get(id))).code, "TASK_FORBIDDEN");
  assert.equal((await caught(bob.remove(id))).code, "TASK_FORBIDDEN");
  assert.equal((await caught(alice.get("00000000-0000-7000-8000-000000000000"))).code, "TASK_NOT_FOUND");
  assert.equal((await caught(alice.create({ title: "B" }, { idempotencyKey: "once" }))).code, "IDEMPOTENCY_KEY_REUSED");
  assert.equal((await caught(alice.update(id, { title: "B" }, { ifMatch: "old" }))).code, "PRECONDITION_FAILED");
  assert.equal((await caught(alice.page({ limit: 0 }))).code, "VALIDATION_ERROR");
});

test("an answer that is not the service's is an error without a code of the service", async (t) => {
  const answer = { status: 418, headers: { "Content-Type": "text/html" }, body: "<h1>I am a teapot</h1>" };
  const between = await proxy(t, { answer });
  const error = await caught(clientOf(someone(), { baseUrl: between.url }).list());
  assert.deepEqual([error.code, error.status, error.requestId, error.errors], ["UNKNOWN", 418, undefined, {}]);
});

test("an answer that is no JSON is an error that says so", async (t) => {
  const between = await proxy(t);
  const tasks = clientOf(someone(), { baseUrl: between.url });
  for (const type of ["text/html", "application/json"]) {
    for (const body of ["<h1>Sign in to the hotel</h1>", ""]) {
      between.faults.push({ answer: { status: 200, headers: { "Content-Type": type, "X-Request-ID": "r" }, body } });
      const error = await caught(tasks.list());
      assert.deepEqual([error.code, error.status, error.requestId], ["UNKNOWN", 200, "r"]);
      assert.match(error.message, /JSON/);
    }
  }
});

test("the error of another service is told in words", async (t) => {
  const between = await proxy(t);
  const tasks = clientOf(someone(), { baseUrl: between.url });
  const problem = { loc: ["body"], msg: "missing" };
  const bodies = [
    { detail: [problem], error_code: "INTERNAL_ERROR" },
    { detail: "No.", error_code: 7, errors: [problem] },
    { detail: "No.", error_code: "NOT_FOUND", errors: [problem] },
    "No.",
    null,
  ];
  for (const body of bodies) {
    between.faults.push({ answer: { status: 422, body: JSON.stringify(body) } });
    const error = await caught(tasks.list());
    assert.equal(typeof error.code, "string");
    assert.match(error.message, /^(No\.|The answer was 422 Unprocessable Entity)$/);
    assert.deepEqual(error.errors, {});
  }
});

async function caught(call: Promise<unknown>): Promise<TaskApiError> {
  const error = await call.then(() => undefined, (reason: unknown) => reason);
  assert.ok(error instanceof TaskApiError, String(error));
  return error;
}
