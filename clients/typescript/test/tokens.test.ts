import assert from "node:assert/strict";
import { test } from "node:test";

import { type GetToken, keepToken, TaskApiError, TaskClient } from "@todo-api/client";

import { clientOf, proxy, SERVICE, someone, token } from "./support.js";

/** Gives the first token until asked to renew, then the next; and remembers what it was asked. */
function giving(...tokens: string[]): { getToken: GetToken; renewals: () => number } {
  let renewals = 0;
  const getToken: GetToken = async ({ renew }) => {
    if (renew) {
      renewals += 1;
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
    return tokens[Math.min(renewals, tokens.length - 1)] ?? "";
  };
  return { getToken, renewals: () => renewals };
}

for (const name of ["expired", "broken"]) {
  test(`20 calls at once with a token that is ${name} renew it once, and all succeed`, async () => {
    const user = someone();

    const good = token(user);
    const { getToken, renewals } = giving(name === "broken" ? good.replace(/[^.]+$/, "x") : token(user, -60), good);
    const tasks = new TaskClient({ baseUrl: SERVICE, getToken });
    const created = await Promise.all(Array.from({ length: 20 }, (_, n) => tasks.create({ title: `Task ${n}` })));
    assert.equal(new Set(created.map((task) => task.id)).size, 20);
    assert.equal(renewals(), 1);
    assert.equal((await tasks.list()).length, 20);
    assert.equal(renewals(), 1);
  });
}

test("a new token that is refused too is an error, and the next call asks for another", async () => {
  const user = someone();
  const { getToken, renewals } = giving(token(user, -60), token(user, -30), token(user));
  const tasks = new TaskClient({ baseUrl: SERVICE, getToken });
  await assert.rejects(tasks.list(), (error) => error instanceof TaskApiError && error.code === "TOKEN_EXPIRED");
  assert.equal(renewals(), 1);
  assert.deepEqual(await tasks.list(), []);
  assert.equal(renewals(), 2);
});

test("the same token again, or none at all, does not keep later calls from asking", async () => {
  const user = someone();
  const old = token(user, -60);
  const { getToken, renewals } = giving(old, old, token(user));
  const tasks = new TaskClient({ baseUrl: SERVICE, getToken });
  await assert.rejects(tasks.list(), { code: "TOKEN_EXPIRED" });
  assert.deepEqual(await tasks.list(), []);
  assert.equal(renewals(), 2);

  let asked = 0;
  const failing = new TaskClient({
    baseUrl: SERVICE,
    getToken: async ({ renew }) => {
      if (renew && ++asked === 1) throw new Error("offline");
      return asked ? token(user) : old;
    },
  });
  await assert.rejects(failing.list(), { message: "offline" });
  assert.deepEqual(await failing.list(), []);
});

for (const none of ["", " ", null, undefined, "two\nlines", "é…"]) {
  test(`a token that is ${JSON.stringify(none)} is missing: nothing is sent, the next call asks again`, async (t) => {
    const between = await proxy(t);
    const given = [none, token(someone())];
    const tasks = new TaskClient({ baseUrl: between.url, getToken: async () => given.shift() });
    await assert.rejects(tasks.list(), (error) => {
      assert.ok(error instanceof TaskApiError);
      assert.deepEqual([error.code, error.status], ["TOKEN_MISSING", 401]);
      return !none?.trim() || !error.message.includes(none); // it may be a secret all the same
    });
    assert.deepEqual(await tasks.list(), []);
    assert.equal(between.passed.length, 1);
  });
}

test("a renewal that gives no token leaves the refusal, and the next call asks again", async () => {
  for (const old of [token(someone(), -60), "opaque"]) {
    let renewals = 0;
    const getToken: GetToken = async ({ renew }) => (renew ? void (renewals += 1) : old);
    const tasks = new TaskClient({ baseUrl: SERVICE, getToken });
    for (const asked of [1, 2]) {
      await assert.rejects(tasks.list(), { code: old === "opaque" ? "TOKEN_INVALID" : "TOKEN_EXPIRED", status: 401 });
      assert.equal(renewals, asked);
    }
  }
});

test("two clients that share a kept token renew it once", { timeout: 30_000 }, async () => {
  const user = someone();
  const given = [token(user, -60), token(user)];
  let asked = 0;
  const kept = keepToken(async () => {
    while (given.length === 1 && asked < 2) await new Promise((resolve) => setTimeout(resolve, 10));
    return given.shift() ?? assert.fail("asked too often");
  });
  const getToken: GetToken = ({ renew }) => {
    asked += Number(renew);
    return kept({ renew });
  };
  const both = [1, 2].map(() => new TaskClient({ baseUrl: SERVICE, getToken }));
  assert.deepEqual(await Promise.all(both.map((tasks) => tasks.list())), [[], []]);
});

test("keepToken keeps no token that there is not", async () => {
  const given = [undefined, token(someone())];
  const tasks = new TaskClient({ baseUrl: SERVICE, getToken: keepToken(async () => given.shift()) });
  await assert.rejects(tasks.list(), { code: "TOKEN_MISSING" });
  for (const _ of [1, 2]) assert.deepEqual(await tasks.list(), []);
});

test("what one user began is not done as another who signed in meanwhile", async () => {
  const [alice, bob] = [someone(), someone()];
  const { getToken } = giving(token(alice, -60), token(bob));
  const tasks = new TaskClient({ baseUrl: SERVICE, getToken });
  await assert.rejects(tasks.create({ title: "Alice's" }), { code: "TOKEN_EXPIRED" });
  assert.deepEqual(await clientOf(bob).list(), []);
});

test("keepToken has no token for the second user either, however often one call is tried, until it forgets", async () => {
  const [alice, bob] = [someone(), someone()];
  const given = [token(alice, -60)];
  const getToken = keepToken(async () => given.shift() ?? token(bob));
  const tasks = new TaskClient({ baseUrl: SERVICE, getToken });
  await assert.rejects(tasks.create({ title: "Alice's" }), { code: "TOKEN_EXPIRED" });
  for (const _ of [1, 2]) await assert.rejects(tasks.create({ title: "Alice's" }), { code: "TOKEN_MISSING" });
  assert.deepEqual(await clientOf(bob).list(), []);
  getToken.forget();
  assert.deepEqual(await tasks.list(), []);
});

test("keepToken fetches once, again when refused or after a failure, and forgets on demand", async (t) => {
  const [alice, bob] = [someone(), someone()];
  const next: (string | Error)[] = [new Error("offline"), token(alice, -60), token(alice), token(bob)];
  const getToken = keepToken(async () => {
    const fetched = next.shift();
    if (typeof fetched === "string") return fetched;
    throw fetched ?? new Error("asked too often");
  });
  const between = await proxy(t);
  const tasks = new TaskClient({ baseUrl: between.url, getToken });
  await assert.rejects(tasks.list(), { message: "offline" });
  await Promise.all([tasks.create({ title: "One" }), tasks.create({ title: "Two" })]);
  assert.equal((await tasks.list()).length, 2);
  assert.equal(next.length, 1);
  getToken.forget();
  assert.deepEqual(await tasks.list(), []);
});
