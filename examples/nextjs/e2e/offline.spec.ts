/** What is done without a network: it opens, is kept, and is sent once. */

import type { Page, Response } from "@playwright/test";

import { add, addUnsent, apiOf, expect, gate, row, sent, test, titles } from "./stack";

/** Wait until the service worker has kept the page. */
const kept = (page: Page) => page.evaluate(async () => void (await navigator.serviceWorker.ready));

test("the list opens without a network: again, in a new tab, and after a restart of the browser", async ({
  installed,
  stack,
}) => {
  let page = await installed.open();
  await add(page, "Buy milk");
  await add(page, "Write the talk");
  await add(page, "Water the plants");
  await kept(page);
  await page.context().setOffline(true);
  await page.reload();
  await expect(page.getByText("You are offline.")).toBeVisible();
  await expect(titles(page)).toHaveText(["Water the plants", "Write the talk", "Buy milk"]);

  await addUnsent(page, "Call mum");
  await page.getByRole("checkbox", { name: "Buy milk" }).check();
  await row(page, "plants").getByRole("button", { name: "Delete" }).click();
  await row(page, "talk").getByRole("button", { name: "Edit" }).click();
  await page.getByLabel("Title").fill("Give the talk");
  await page.getByRole("button", { name: "Save" }).click();
  const asLeft = ["Call mum", "Give the talk", "Buy milk"];
  await expect(titles(page)).toHaveText(asLeft);
  await expect(page.getByText("4 changes are saved on this device and will be sent later.")).toBeVisible();
  await page.reload();
  await expect(titles(page)).toHaveText(asLeft);
  const tab = await page.context().newPage();
  await tab.goto("/?show=active");
  await expect(titles(tab)).toHaveText(["Call mum", "Give the talk"]);

  page = await installed.restart({ offline: true });
  await expect(titles(page)).toHaveText(asLeft);
  await expect(page.getByRole("checkbox", { name: "Buy milk" })).toBeChecked();
  expect((await apiOf(page, stack).list()).map(({ title }) => title)).not.toContain("Call mum");
  await page.context().setOffline(false);
  await sent(page);
  await expect(page.getByText("You are offline.")).toHaveCount(0);
  const tasks = await apiOf(page, stack).list();
  expect(tasks.map(({ title, is_completed }) => [title, is_completed])).toEqual([
    ["Call mum", false],
    ["Give the talk", false],
    ["Buy milk", true],
  ]);
});

test("what two tabs do without a network shows in both, and is sent once and in order", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await kept(page);
  const context = page.context();
  const tab = await context.newPage();
  await tab.goto("/");
  await context.setOffline(true);
  await addUnsent(page, "First");
  await expect(titles(tab)).toHaveText(["First"]);
  await addUnsent(tab, "Second");
  await expect(titles(page)).toHaveText(["Second", "First"]);
  await tab.getByRole("checkbox", { name: "First" }).check(); // which the API has not seen yet
  await expect(page.getByRole("checkbox", { name: "First" })).toBeChecked();
  const writes: string[] = [];
  context.on("response", (answer) => {
    const method = answer.request().method();
    if (/POST|PATCH|DELETE/.test(method) && answer.url().startsWith(stack.apiUrl) && answer.status() !== 401) {
      writes.push(method);
    }
  });
  await context.setOffline(false);
  await sent(page);
  expect(writes).toEqual(["POST", "POST", "PATCH"]);
  for (const each of [page, tab]) {
    await expect(titles(each)).toHaveText(["Second", "First"]);
    await expect(each.getByRole("checkbox", { name: "First" })).toBeChecked();
  }
});

test("a task that the API has not seen can be edited, completed and deleted", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await expect(page.getByText("Nothing to do yet")).toBeVisible();
  await page.context().setOffline(true);
  await addUnsent(page, "Buy milk");
  await addUnsent(page, "Never mind");
  await row(page, "milk").getByRole("button", { name: "Edit" }).click();
  await page.getByLabel("Title").fill("Buy oats");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("checkbox", { name: "Buy oats" }).check();
  await row(page, "Never mind").getByRole("button", { name: "Delete" }).click();
  await row(page, "oats").getByRole("button", { name: "Edit" }).click();
  await page.getByLabel("Title").fill("Buy rye");
  await page.context().setOffline(false);
  await expect
    .poll(async () => (await apiOf(page, stack).list()).find(({ is_completed }) => is_completed)?.title)
    .toBe("Buy oats");
  await expect(page.getByLabel("Title")).toHaveValue("Buy rye"); // its editor is still open
  await page.getByRole("button", { name: "Save" }).click();
  await sent(page);
  expect((await apiOf(page, stack).list()).map(({ title, is_completed }) => [title, is_completed])).toEqual([
    ["Buy rye", true],
  ]);
  await expect(page.getByRole("alert").filter({ hasText: /./ })).toHaveCount(0);
});

test("a tab that is closed before the answer is here makes one task", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  const keys: (string | undefined)[] = [];
  const arrived = gate();
  await page.context().route(`${stack.apiUrl}/api/tasks`, async (route) => {
    if (route.request().method() !== "POST") return route.fallback();
    keys.push(route.request().headers()["idempotency-key"]);
    if (keys.length > 1) return route.fallback();
    await route.fetch(); // it arrives, and its answer never comes
    arrived.give();
  });
  await addUnsent(page, "Buy milk");
  await arrived.held;
  const again = await page.context().newPage();
  await page.close({ runBeforeUnload: false });
  await again.goto("/");
  await sent(again);
  await expect(titles(again)).toHaveText(["Buy milk"]);
  expect(await apiOf(again, stack).list()).toHaveLength(1);
  expect([keys.length, new Set(keys).size]).toEqual([2, 1]);
});

test("a conflict with what was done without a network is asked about, after a reload too", async ({
  newUser,
  secondDevice,
}) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  await kept(page);
  const other = await secondDevice(page);
  await page.context().setOffline(true);
  await rename(page, "Buy milk", "Buy oats");
  await page.reload();
  await rename(other, "Buy milk", "Buy rice");
  await sent(other);
  await page.context().setOffline(false);
  const conflict = page.getByRole("alert", { name: "Conflict" });
  await expect(conflict).toContainText("“Buy rice” was changed elsewhere");
  await page.reload();
  await expect(conflict).toContainText("Buy oats");
  await page.getByRole("button", { name: "Keep mine" }).click();
  await sent(page);
  await expect(conflict).toHaveCount(0);
  await expect(titles(page)).toHaveText(["Buy oats"]);
});

test("a change on the phone shows on the desktop within a minute, at the price of a 304 until then", async ({
  newUser,
  secondDevice,
  stack,
}) => {
  const desktop = await newUser("Alice");
  await add(desktop, "Buy milk");
  await desktop.clock.install();
  await desktop.reload();
  await expect(titles(desktop)).toHaveText(["Buy milk"]);
  // A token may just have expired: its 401 is followed by the same request with a new one.
  const isFeed = (answer: Response) =>
    answer.url().startsWith(`${stack.apiUrl}/api/tasks/changes`) && answer.status() !== 401;
  const statuses: number[] = [];
  desktop.on("response", (answer) => isFeed(answer) && statuses.push(answer.status()));
  // The page counts minutes once its first sync has ended.
  await expect.poll(() => desktop.clock.fastForward("01:00").then(() => statuses.at(-1))).toBe(304);
  const nextFeed = desktop.waitForResponse(isFeed);
  await desktop.clock.fastForward("01:00");
  expect((await nextFeed).status()).toBe(304);
  const phone = await secondDevice(desktop);
  await add(phone, "Write the talk");
  await desktop.clock.fastForward("01:00");
  await expect(titles(desktop)).toHaveText(["Write the talk", "Buy milk"]);

  await add(phone, "Water the plants");
  await desktop.evaluate(() => window.dispatchEvent(new Event("focus")));
  await expect(titles(desktop)).toHaveText(["Water the plants", "Write the talk", "Buy milk"]);
});

test("a page that was never opened with a network says so", async ({ newUser }) => {
  const page = await newUser("Alice");
  await kept(page);
  await page.evaluate(() => indexedDB.deleteDatabase("tasks"));
  await page.context().setOffline(true);
  await page.reload();
  await expect(page.getByText("Your tasks appear here once you are online.")).toBeVisible();
  await page.context().setOffline(false);
  await expect(page.getByText("Nothing to do yet")).toBeVisible();
});

async function rename(page: Page, from: string, to: string) {
  await page.getByRole("button", { name: `Edit ${from}` }).click();
  await page.getByLabel("Title").fill(to);
  await page.getByRole("button", { name: "Save" }).click();
  await expect(page.getByRole("checkbox", { name: to })).toBeVisible();
}
