/** What goes wrong on the way to the API, and how the page says so and heals. */

import { once } from "node:events";
import { createServer } from "node:http";

import Database from "libsql";

import { add, addUnsent, apiOf, expect, gate, impatient, sent, signUp, taskOf, test, titles } from "./stack";

const TASKS = "**/api/tasks";
const FEED = "**/api/tasks/changes*";
const ONE_TASK = /\/api\/tasks\/[0-9a-f-]{36}$/;
const ANY_ORIGIN = { "Access-Control-Allow-Origin": "*" };

test("a network that is cut in the middle of a change breaks nothing", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  const context = page.context();
  let posted = 0;
  await page.route(TASKS, async (route) => {
    if (route.request().method() !== "POST" || ++posted > 1) return route.fallback();
    await route.fetch(); // it arrives, and the network is gone before its answer is here
    await context.setOffline(true);
    await route.abort("internetdisconnected");
  });
  await addUnsent(page, "Buy milk");
  await expect(page.getByText("1 change is saved on this device and will be sent later.")).toBeVisible();
  await page.waitForTimeout(3_000); // until the client's own repeats are over
  await context.setOffline(false);
  await sent(page);
  await expect(titles(page)).toHaveText(["Buy milk"]);
  await taskOf(page, stack, "Buy milk");
});

test("the API is restarted in mid-session: changes wait and are sent by themselves", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  await stack.stopApi();
  await page.getByRole("checkbox", { name: "Buy milk" }).check();
  await expect(page.getByText("The service cannot be reached. 1 change is saved on this device")).toBeVisible();
  await expect(page.getByRole("checkbox", { name: "Buy milk" })).toBeChecked();
  await stack.startApi();
  await sent(page);
  await expect(page.getByText("The service cannot be reached.")).toHaveCount(0);
  expect(await taskOf(page, stack, "Buy milk")).toMatchObject({ is_completed: true });
});

test("a page that is opened while the API is away shows what it kept, says so, and heals", async ({
  newUser,
  stack,
}) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  await stack.stopApi();
  const away = createServer((_, answer) => answer.writeHead(503, { "Retry-After": "5" }).end());
  await once(away.listen(Number(new URL(stack.apiUrl).port), "localhost"), "listening");
  await page.reload();
  await expect(titles(page)).toHaveText(["Buy milk"]);
  away.closeAllConnections();
  await new Promise((resolve) => away.close(resolve));
  await page.reload();
  await expect(page.getByText("The service cannot be reached. This list may be out of date.")).toBeVisible();
  await expect(titles(page)).toHaveText(["Buy milk"]);
  await stack.startApi();
  await expect(page.getByText("This list may be out of date.")).toHaveCount(0);
});

test("a list that cannot be loaded at first says so, and loads when asked to", async ({ newBrowser, stack }) => {
  const context = await newBrowser();
  await signUp(context, stack, "Alice");
  const page = await context.newPage();
  await apiOf(page, stack).create({ title: "Buy milk" });
  const answer = gate();
  await page.route(FEED, async (route) => {
    await answer.held;
    await route.abort();
  });
  await page.goto("/");
  await expect(page.getByText("Loading your tasks")).toBeAttached();
  answer.give();
  await expect(page.getByText("The service cannot be reached.")).toBeVisible();
  await expect(page.getByText("Your tasks could not be loaded yet.")).toBeVisible();
  await page.unroute(FEED);
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(titles(page)).toHaveText(["Buy milk"]);
});

test("a token that has expired is renewed unnoticed", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  await page.waitForTimeout(13_000); // its lifetime, and the API's leeway
  const refused = page.waitForResponse((answer) => answer.status() === 401);
  await page.getByRole("checkbox", { name: "Buy milk" }).click();
  expect(await (await refused).json()).toMatchObject({ error_code: "TOKEN_EXPIRED" });
  await sent(page);
  expect(await taskOf(page, stack, "Buy milk")).toMatchObject({ is_completed: true });
  await expect(page.getByRole("button", { name: "Try again" })).toHaveCount(0);
});

test("nothing is done as another user who signs in in the same browser", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await add(page, "Hers");
  await signUp(page.context(), stack, "Bob");
  await page.waitForTimeout(13_000);
  await page.getByLabel("What is to be done?").fill("Hers, too");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await expect(page.getByText("Bob")).toBeVisible();
  await expect(page.getByText("Nothing to do yet")).toBeVisible();
  await expect(titles(page)).toHaveCount(0);
  expect(await apiOf(page, stack).list()).toEqual([]);
});

test("a creation whose answers are lost makes one task", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  const keys: (string | undefined)[] = [];
  await page.route(TASKS, async (route) => {
    if (route.request().method() !== "POST") return route.fallback();
    keys.push(route.request().headers()["idempotency-key"]);
    expect((await route.fetch()).status()).toBe(201);
    await route.abort();
  });
  await addUnsent(page, "Buy milk");
  await expect(page.getByText("The service cannot be reached.")).toBeVisible();
  await page.unroute(TASKS);
  await page.getByRole("button", { name: "Try again" }).click();
  await sent(page);
  await expect(titles(page)).toHaveText(["Buy milk"]);
  await taskOf(page, stack, "Buy milk");
  expect(keys.length).toBeGreaterThan(1);
  expect(new Set(keys).size).toBe(1);
});

test("what the API refuses is taken back and said, after a reload too, until it is dealt with", async ({ newUser }) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  const answer = gate();
  await page.route(ONE_TASK, async (route) => {
    if (route.request().method() === "OPTIONS") return route.fallback();
    await answer.held;
    const body = { detail: "Something went wrong.", error_code: "INTERNAL_ERROR", status_code: 500 };
    await route.fulfill({ status: 500, json: body, headers: ANY_ORIGIN });
  });
  const checkbox = page.getByRole("checkbox", { name: "Buy milk" });
  await checkbox.click();
  await expect(checkbox).toBeChecked(); // before the API has said anything
  answer.give();
  const refusal = page.getByRole("alert").getByText("Could not complete “Buy milk”. Something went wrong.");
  await expect(refusal).toBeVisible();
  await expect(checkbox).not.toBeChecked();
  await page.reload();
  await expect(refusal).toBeVisible();
  await page.unroute(ONE_TASK);
  await page.getByRole("button", { name: "Try again" }).click();
  await sent(page);
  await expect(checkbox).toBeChecked();
  await expect(page.getByRole("region", { name: "Your tasks" })).toBeFocused();
});

test("the completed are not deleted when a change before that was not saved", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  for (const title of ["Buy milk", "Write the talk"]) await add(page, title);
  await page.getByRole("button", { name: "Complete all" }).click();
  await sent(page);
  await page.route(ONE_TASK, (route) => route.fulfill({ status: 500, json: {}, headers: ANY_ORIGIN }));
  await page.getByRole("checkbox", { name: "Buy milk" }).click();
  await page.getByRole("button", { name: "Clear completed" }).click();
  await expect(page.getByText("Could not reopen “Buy milk”.")).toBeVisible();
  const refused = page.getByText("Could not delete the completed tasks. An earlier change was not saved.");
  await expect(refused).toBeVisible({ timeout: 20_000 }); // once the deletion can no longer be undone
  await page.unroute(ONE_TASK);
  const reopening = page.getByRole("alert").filter({ hasText: "Could not reopen" });
  await reopening.getByRole("button", { name: "Try again" }).click();
  await expect(reopening).toHaveCount(0);
  await expect(page.getByRole("checkbox", { name: "Buy milk" })).not.toBeChecked();
  await page.getByRole("button", { name: "Try again" }).click();
  await sent(page);
  await taskOf(page, stack, "Buy milk");
  await expect(titles(page)).toHaveText(["Buy milk"]);
});

test("what the limit of tasks refuses can be added once there is room, with what was done to it", async ({
  newUser,
  stack,
}) => {
  const page = await newUser("Alice");
  await expect(page.getByText("Nothing to do yet")).toBeVisible();
  await page.route(TASKS, async (route) => {
    if (route.request().method() !== "POST") return route.fallback();
    const json = { detail: "There is no room.", error_code: "TASK_LIMIT_REACHED", status_code: 422 };
    await route.fulfill({ status: 422, json, headers: ANY_ORIGIN });
  });
  await page.context().setOffline(true);
  await addUnsent(page, "Buy milk", "2 l");
  await page.getByRole("checkbox", { name: "Buy milk" }).check();
  await page.context().setOffline(false);
  await expect(page.getByText("Could not add “Buy milk”. There is no room.")).toBeVisible();
  await page.unroute(TASKS);
  await page.getByRole("button", { name: "Try again" }).click();
  await sent(page);
  expect(await taskOf(page, stack, "Buy milk")).toMatchObject({ description: "2 l", is_completed: true });
});

test("a change that is refused and dismissed is gone, with what was done to it", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await expect(page.getByText("Nothing to do yet")).toBeVisible();
  await page.route(TASKS, (route) => route.fulfill({ status: 422, json: {}, headers: ANY_ORIGIN }));
  await page.context().setOffline(true);
  await addUnsent(page, "Buy milk");
  await page.getByRole("checkbox", { name: "Buy milk" }).check();
  await page.context().setOffline(false);
  await page.getByRole("button", { name: "Dismiss" }).click();
  await sent(page);
  await expect(page.getByText("Nothing to do yet")).toBeVisible();
  expect(await apiOf(page, stack).list()).toEqual([]);
});

test("a request that hangs is given up, and sent again", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await impatient(page);
  await add(page, "Buy milk");
  let hung = 0;
  await page.route(ONE_TASK, async (route) => {
    if (route.request().method() !== "PATCH" || hung++ > 0) return route.fallback();
  });
  await page.getByRole("checkbox", { name: "Buy milk" }).click();
  await addUnsent(page, "Write the talk");
  await sent(page);
  expect(hung).toBe(2);
  await expect(titles(page)).toHaveText(["Write the talk", "Buy milk"]);
  expect(await taskOf(page, stack, "Buy milk")).toMatchObject({ is_completed: true });
});

test("a token that never comes, or another page in its place, is said in words", async ({ newUser }) => {
  const page = await newUser("Alice");
  await impatient(page);
  await page.route("**/api/auth/token", () => undefined);
  await page.reload();
  await expect(page.getByText("The service does not answer.")).toBeVisible();
  await page.unroute("**/api/auth/token");
  await page.route("**/api/auth/token", (route) => route.fulfill({ contentType: "text/html", body: "<p>Welcome</p>" }));
  await page.reload();
  await expect(page.getByText("The sign-in service does not answer.")).toBeVisible();
});

test("a list that was read before a change does not take it back", async ({ newUser }) => {
  const page = await newUser("Alice");
  for (const title of ["First", "Second"]) await add(page, title);
  const answer = gate();
  const asked = gate();
  await page.route(FEED, async (route) => {
    const read = await route.fetch();
    asked.give();
    await answer.held;
    await route.fulfill({ response: read });
  });
  await page.getByRole("checkbox", { name: "First" }).click();
  await asked.held; // the list, with the first completed
  await page.getByRole("checkbox", { name: "Second" }).click();
  answer.give();
  await page.waitForTimeout(500);
  await expect(page.getByRole("checkbox", { checked: true })).toHaveCount(2);
  await sent(page);
  await expect(page.getByRole("checkbox", { checked: true })).toHaveCount(2);
  await page.unrouteAll({ behavior: "wait" });
});

test("a page that cannot be made says so, and can be asked for again", async ({ newBrowser, stack }) => {
  const page = await (await newBrowser()).newPage();
  const database = new Database(stack.authDatabase, { timeout: 5_000 });
  await signUp(page.context(), stack, "Alice");
  try {
    database.exec("ALTER TABLE session RENAME TO lost");
    await page.goto("/sign-in");
    await expect(page.getByRole("heading", { name: "Something went wrong" })).toBeVisible();
  } finally {
    database.exec("ALTER TABLE lost RENAME TO session");
    database.close();
  }
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(page.getByText("Nothing to do yet")).toBeVisible();
});
