import { once } from "node:events";
import { createServer } from "node:http";

import Database from "libsql";

import { add, expect, gate, impatient, row, signUp, test, titles } from "./stack";

const TASKS = "**/api/tasks*";
const ONE_TASK = "**/api/tasks/*";

test("without a network changes wait, and are sent when it is back", async ({ newUser, secondDevice }) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  await add(page, "Write the talk");
  await page.getByRole("radio", { name: "Completed" }).check();
  await expect(page.getByText("Nothing completed yet.")).toBeVisible();
  await page.getByRole("radio", { name: "All" }).check();
  await page.context().setOffline(true);
  await expect(page.getByText("You are offline.")).toBeVisible();
  await page.getByRole("checkbox", { name: "Buy milk" }).check();
  await row(page, "talk").getByRole("button", { name: "Delete" }).click();
  await page.getByLabel("What is to be done?").fill("Water the plants");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await expect(page.getByText("3 changes wait to be sent.")).toBeVisible();
  await expect(titles(page)).toHaveText(["Water the plants", "Buy milk"]);
  await page.getByRole("radio", { name: "Completed" }).check();
  await expect(titles(page)).toHaveText(["Buy milk"]);
  await page.getByRole("radio", { name: "All" }).check();
  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page.getByText("You are still signed in: a change was not saved yet.")).toBeVisible();

  await page.context().setOffline(false);
  await expect(page.getByText("You are offline.")).toHaveCount(0);
  await expect(page.getByText("Added “Water the plants”.")).toBeAttached();
  const other = await secondDevice(page);
  await expect(titles(other)).toHaveText(["Water the plants", "Buy milk"]);
  await expect(other.getByRole("checkbox", { name: "Buy milk" })).toBeChecked();
});

test("a network that is cut in the middle of a change breaks nothing", async ({ newUser, secondDevice }) => {
  const page = await newUser("Alice");
  const context = page.context();
  let sent = 0;
  await page.route(TASKS, async (route) => {
    if (route.request().method() !== "POST" || ++sent > 1) return route.fallback();
    await route.fetch(); // it arrives, and the network is gone before its answer is here
    await context.setOffline(true);
    await route.abort("internetdisconnected");
  });
  await page.getByLabel("What is to be done?").fill("Buy milk");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await expect(page.getByText("One change waits to be sent.")).toBeVisible();
  await page.waitForTimeout(3_000); // until the client's own repeats are over
  await context.setOffline(false);
  await expect(page.getByRole("checkbox", { name: "Buy milk" })).toBeEnabled();
  await expect(page.getByRole("button", { name: "Try again" })).toHaveCount(0);
  await expect(titles(await secondDevice(page))).toHaveText(["Buy milk"]);
});

test("the API is restarted in mid-session", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  await stack.stopApi();
  await page.getByRole("checkbox", { name: "Buy milk" }).click();
  await expect(
    page.getByRole("alert").getByText("Could not complete “Buy milk”. The service cannot be reached."),
  ).toBeVisible();
  await expect(page.getByRole("checkbox", { name: "Buy milk" })).not.toBeChecked();
  await expect(page.getByText("This list may be out of date.")).toBeVisible();
  await stack.startApi();
  await expect(page.getByText("This list may be out of date.")).toHaveCount(0); // by itself
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(page.getByText("Completed “Buy milk”.")).toBeAttached();
  await expect(page.getByRole("alert").getByText("Could not")).toHaveCount(0);
  await page.reload();
  await expect(page.getByRole("checkbox", { name: "Buy milk" })).toBeChecked();
});

test("a page that is opened while the API is away comes at once, says so, and heals", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  await stack.stopApi();
  const away = createServer((_, answer) => answer.writeHead(503, { "Retry-After": "5" }).end());
  await once(away.listen(Number(new URL(stack.apiUrl).port), "localhost"), "listening");
  await expect(async () => {
    const asked = Date.now();
    await expect(await page.request.get("/")).toBeOK(); // what the server makes, without what the browser adds
    expect(Date.now() - asked).toBeLessThan(1_500); // a repeat would take 2 s, the server's patience
  }).toPass({ timeout: 15_000 });
  away.closeAllConnections();
  await new Promise((resolve) => away.close(resolve));

  await page.reload();
  const problem = page.getByText("Your tasks could not be loaded. The service cannot be reached.");
  await expect(problem).toBeVisible();
  await page.route(TASKS, async (route) => {
    await page.waitForTimeout(1_000);
    await route.fallback();
  });
  await page.waitForRequest(TASKS); // by itself
  await page.waitForTimeout(500);
  expect(await problem.isVisible()).toBe(true); // while it is asked again, too
  await stack.startApi();
  await expect(titles(page)).toHaveText(["Buy milk"]);
  await expect(page.getByText("could not be loaded")).toHaveCount(0);
});

test("a token that has expired is renewed unnoticed", async ({ newUser }) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  await page.waitForTimeout(13_000); // its lifetime, and the API's leeway
  const refused = page.waitForResponse((answer) => answer.status() === 401);
  await page.getByRole("checkbox", { name: "Buy milk" }).click();
  expect(await (await refused).json()).toMatchObject({ error_code: "TOKEN_EXPIRED" });
  await expect(page.getByText("Completed “Buy milk”.")).toBeAttached();
  await expect(page.getByRole("button", { name: "Try again" })).toHaveCount(0);
  await page.reload();
  await expect(page.getByRole("checkbox", { name: "Buy milk" })).toBeChecked();
});

test("a session that ends while the page is open leads to the sign-in page, which says why", async ({ newUser }) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  const other = await page.context().newPage();
  await other.goto("/");
  await page.context().clearCookies();
  await page.waitForTimeout(13_000);
  await page.getByLabel("Search").fill("milk");
  await expect(page.getByText("Your session has ended.")).toBeVisible();
  await other.getByRole("checkbox", { name: "Buy milk" }).click();
  await other.getByRole("button", { name: "Dismiss" }).click(); // nothing is left that keeps the user here
  await expect(other.getByText("Your session has ended.")).toBeVisible({ timeout: 3_000 }); // not when it is next asked
});

test("a change that a session's end cuts off is kept until the user has signed in again", async ({ newUser }) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  const session = await page.context().cookies();
  await page.context().clearCookies();
  await page.waitForTimeout(13_000);
  await page.getByLabel("What is to be done?").fill("Write the talk");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await expect(page.getByText("Could not add “Write the talk”. You are signed out.")).toBeVisible();
  await expect(page.getByText("This list may be out of date. You are signed out.")).toBeVisible();
  await expect(page.getByRole("link", { name: "Sign in" })).toHaveAttribute("target", "_blank");
  await page.context().addCookies(session);
  await page.getByRole("button", { name: "Try again" }).first().click();
  await expect(page.getByText("Added “Write the talk”.")).toBeAttached();
  await expect(titles(page)).toHaveText(["Write the talk", "Buy milk"]);
});

test("nothing is done as another user who signs in in the same browser", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await add(page, "Hers");
  await signUp(page.context(), stack, "Bob");
  await page.waitForTimeout(13_000);
  await page.getByLabel("What is to be done?").fill("Hers, too");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await expect(page.getByText("Could not add “Hers, too”. Somebody else has signed in.")).toBeVisible();
  await page.getByRole("button", { name: "Dismiss" }).click();
  await expect(page.getByText("Nothing to do yet")).toBeVisible();
  await expect(page.getByText("Bob")).toBeVisible();
});

test("a creation whose answers are lost makes one task, however often it is tried again", async ({
  newUser,
  stack,
}) => {
  const page = await newUser("Alice");
  const keys: (string | undefined)[] = [];
  await page.route(TASKS, async (route) => {
    if (route.request().method() !== "POST") return route.fallback();
    keys.push(route.request().headers()["idempotency-key"]);
    const answer = await route.fetch();
    expect(answer.status()).toBe(201);
    await route.abort();
  });
  await page.getByLabel("What is to be done?").fill("Buy milk");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await expect(page.getByText("Could not add “Buy milk”.")).toBeVisible();
  await page.unroute(TASKS);
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(page.getByText("Added “Buy milk”.")).toBeAttached();
  await expect(titles(page)).toHaveText(["Buy milk"]);
  expect(keys.length).toBeGreaterThan(1);
  expect(new Set(keys).size).toBe(1);
  await page.goto(stack.origin);
  await expect(titles(page)).toHaveText(["Buy milk"]);
});

test("what the API refuses is taken back, and said", async ({ newUser }) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  const answer = gate();
  await page.route(ONE_TASK, async (route) => {
    await answer.held;
    const body = { detail: "Something went wrong.", error_code: "INTERNAL_ERROR", status_code: 500 };
    await route.fulfill({ status: 500, json: body, headers: { "Access-Control-Allow-Origin": "*" } });
  });
  const checkbox = page.getByRole("checkbox", { name: "Buy milk" });
  const asked = page.waitForRequest(ONE_TASK);
  await checkbox.click();
  await asked;
  await expect(checkbox).toBeChecked(); // before the API has said anything
  answer.give();
  await expect(page.getByRole("alert").getByText("Could not complete “Buy milk”. Something went wrong.")).toBeVisible();
  await expect(checkbox).not.toBeChecked();

  const question = page.waitForEvent("dialog");
  await page.evaluate(() => void setTimeout(() => window.location.reload()));
  await (await question).dismiss(); // "Leave site?" No: what could not be done would be forgotten
  await page.unroute(ONE_TASK);
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(checkbox).toBeChecked();
  await expect(page.getByRole("region", { name: "Your tasks" })).toBeFocused();
});

test("the completed are not deleted when a change before that was not saved", async ({ newUser }) => {
  const page = await newUser("Alice");
  for (const title of ["Buy milk", "Write the talk"]) await add(page, title);
  await page.getByRole("button", { name: "Complete all" }).click();
  await expect(page.getByText("Completed 2 tasks.")).toBeAttached();
  const answer = gate();
  await page.route(ONE_TASK, async (route) => {
    await answer.held;
    await route.fulfill({ status: 500, json: {}, headers: { "Access-Control-Allow-Origin": "*" } });
  });
  const asked = page.waitForRequest(ONE_TASK);
  await page.getByRole("checkbox", { name: "Buy milk" }).click();
  await asked;
  await page.getByRole("button", { name: "Clear completed" }).click();
  await page.getByRole("button", { name: "Delete them" }).click();
  await expect(titles(page)).toHaveText(["Buy milk"]);
  answer.give();
  await expect(page.getByText("Could not reopen “Buy milk”.")).toBeVisible();
  const refused = page.getByText("Could not delete the completed tasks. An earlier change was not saved.");
  await expect(refused).toBeVisible();
  await page.unroute(ONE_TASK);
  await page.getByRole("button", { name: "Try again" }).first().click();
  await expect(page.getByText("Reopened “Buy milk”.")).toBeAttached();
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(page.getByText("Deleted 1 task.")).toBeAttached();
  await page.reload();
  await expect(titles(page)).toHaveText(["Buy milk"]);
});

test("what the limit of tasks refuses can be added once there is room", async ({ newUser }) => {
  const page = await newUser("Alice");
  await page.route(TASKS, async (route) => {
    if (route.request().method() !== "POST") return route.fallback();
    const json = { detail: "There is no room.", error_code: "TASK_LIMIT_REACHED", status_code: 422 };
    await route.fulfill({ status: 422, json, headers: { "Access-Control-Allow-Origin": "*" } });
  });
  await page.getByLabel("What is to be done?").fill("Buy milk");
  await page.getByLabel("Details (optional)").fill("2 l");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await expect(page.getByText("Could not add “Buy milk”. There is no room.")).toBeVisible();
  await page.unroute(TASKS);
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(page.getByText("Added “Buy milk”.")).toBeAttached();
  await expect(row(page, "Buy milk")).toContainText("2 l");
});

test("a list that is long in coming is said to be loading", async ({ newUser }) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  const answer = gate();
  await page.route(TASKS, async (route) => {
    await answer.held;
    await route.continue();
  });
  await page.getByLabel("Search").fill("zebra");
  await expect(page.getByText("Loading your tasks")).toBeAttached();
  answer.give();
  await expect(page.getByText("No task matches “zebra”.")).toBeVisible();
});

test("a request that hangs is given up, and what waits behind it is sent", async ({ newUser }) => {
  const page = await newUser("Alice");
  await impatient(page);
  await add(page, "Buy milk");
  const keys: (string | undefined)[] = [];
  await page.route("**/api/tasks**", async (route) => {
    if (route.request().method() === "PATCH") return; // never answered
    if (route.request().method() !== "POST") return route.fallback();
    keys.push(route.request().headers()["idempotency-key"]);
    if (keys.length > 1) return route.fallback();
    await route.fetch(); // it arrives, and its answer never comes
  });
  await page.getByRole("checkbox", { name: "Buy milk" }).click();
  await page.getByLabel("What is to be done?").fill("Write the talk");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await expect(page.getByText("Could not complete “Buy milk”. The service does not answer.")).toBeVisible();
  await expect(page.getByText("Could not add “Write the talk”. The service does not answer.")).toBeVisible();
  await page.getByRole("button", { name: "Try again" }).last().click();
  await expect(page.getByText("Added “Write the talk”.")).toBeAttached();
  await expect(titles(page)).toHaveText(["Write the talk", "Buy milk"]);
  expect(new Set(keys).size).toBe(1);
});

test("a list, or a token, that never comes is said not to", async ({ newUser }) => {
  for (const hangs of ["**/api/tasks*", "**/api/auth/token"]) {
    const page = await newUser("Alice");
    await impatient(page);
    await page.route(hangs, () => undefined);
    await page.getByLabel("Search").fill("zebra");
    await expect(page.getByText("Your tasks could not be loaded. The service does not answer.")).toBeVisible();
  }
});

test("another page in place of a token, such as a hotel's, is said in words", async ({ newUser }) => {
  const page = await newUser("Alice");
  await page.route("**/api/auth/token", (route) => route.fulfill({ contentType: "text/html", body: "<p>Welcome</p>" }));
  await page.getByLabel("Search").fill("zebra");
  await expect(page.getByText("Your tasks could not be loaded. The sign-in service does not answer.")).toBeVisible();
});

test("a list that was asked for before a change does not take it back", async ({ newUser }) => {
  const page = await newUser("Alice");
  for (const title of ["First", "Second", "Third"]) await add(page, title);
  const answers: Record<string, () => void> = {};
  let asked = 0;
  await page.route("**/api/tasks**", async (route) => {
    const method = route.request().method();
    const name = method === "PATCH" ? `change ${++asked}` : method;
    const answer = name === "change 1" || name in answers ? undefined : await route.fetch();
    if (name !== "change 1" && !(name in answers)) await new Promise<void>((resolve) => (answers[name] = resolve));
    await (answer ? route.fulfill({ response: answer }) : route.fallback());
  });
  const click = (name: string) => page.getByRole("checkbox", { name }).click();
  await click("First");
  await expect.poll(() => Object.keys(answers)).toEqual(["GET"]); // the list, with the first completed
  await click("Second");
  await click("Third");
  await expect.poll(() => Object.keys(answers)).toEqual(["GET", "change 2"]);
  answers["change 2"]?.();
  await expect.poll(() => Object.keys(answers)).toEqual(["GET", "change 2", "change 3"]);
  await expect(page.getByText("Completed “Second”.")).toBeAttached();
  answers["GET"]?.();
  await page.waitForTimeout(1_000);
  await expect(page.getByRole("checkbox", { checked: true })).toHaveCount(3);
  answers["change 3"]?.();
  await expect(page.getByText("Completed “Third”.")).toBeAttached();
  await expect(page.getByRole("checkbox", { checked: true })).toHaveCount(3);
});

test("a page that cannot be made says so, and can be asked for again", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  const database = new Database(stack.authDatabase);
  try {
    database.exec("ALTER TABLE session RENAME TO lost");
    await page.reload();
    await expect(page.getByRole("heading", { name: "Something went wrong" })).toBeVisible();
  } finally {
    database.exec("ALTER TABLE lost RENAME TO session");
    database.close();
  }
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(titles(page)).toHaveText(["Buy milk"]);
});
