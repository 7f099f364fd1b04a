import assert from "node:assert/strict";
import { test } from "node:test";

import { clientOf, proxy, seconds, someone, unavailable } from "./support.js";

test("an abort ends a call at once, wherever it waits", { timeout: 30_000 }, async (t) => {
  const between = await proxy(t);
  const user = someone();
  const options = { baseUrl: between.url };
  const never = new Promise<string>(() => undefined);
  const endless = () => Promise.resolve(new Response(new ReadableStream())); // and it knows of no abort
  const waits = [
    { tasks: clientOf(user, options), fault: { delay: 5000 } },
    { tasks: clientOf(user, options), fault: unavailable("5") },
    { tasks: clientOf(user, { ...options, getToken: () => never }), fault: undefined },
    { tasks: clientOf(user, { ...options, fetch: endless }), fault: undefined },
  ];
  for (const { tasks, fault } of waits) {
    if (fault) between.faults.push(fault);
    const reason = new Error("The user left.");
    const stop = new AbortController();
    setTimeout(() => stop.abort(reason), 100);
    const began = performance.now();
    await assert.rejects(tasks.list({}, { signal: stop.signal }), (error) => error === reason);
    assert.ok(seconds(began) < 4, `${seconds(began)} s`);
  }
  assert.ok(!process.getActiveResourcesInfo().includes("Timeout"), "a wait that is over keeps the program alive");
  const before = between.passed.length;
  const call = clientOf(user, options).create({ title: "Never" }, { signal: AbortSignal.abort() });
  await assert.rejects(call, { name: "AbortError" });
  const failing = { ...options, getToken: () => Promise.reject(new Error("signed out")) };
  await assert.rejects(clientOf(user, failing).list({}, { signal: AbortSignal.abort() }), { name: "AbortError" });
  assert.equal(between.passed.length, before);
});
