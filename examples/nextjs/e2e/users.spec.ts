import { add, addUnsent, apiOf, expect, fromSomewhere, sent, taskOf, test, titles } from "./stack";

test("somebody signs up, out, and in again, and the tasks are still there", async ({ page, stack }) => {
  await page.goto(stack.origin);
  await page.getByRole("link", { name: "Sign up" }).click();
  await page.getByLabel("Name").fill("Alice");
  await page.getByLabel("E-mail").fill("alice@example.com");
  await page.getByLabel("Password").fill("correct-horse");
  await page.getByRole("button", { name: "Sign up" }).click();
  await expect(page.getByText("Nothing to do yet")).toBeVisible();
  await add(page, "Buy milk", "2 l");

  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page.getByRole("heading", { name: "Sign in" })).toBeVisible();
  await expect(page).toHaveURL(`${stack.origin}/sign-in`);
  await expect(page.getByText("Your session has ended.")).toHaveCount(0); // who signs out knows
  await page.goto(stack.origin);
  await expect(page).toHaveURL(`${stack.origin}/sign-in`);

  await page.getByLabel("E-mail").fill("alice@example.com");
  await page.getByLabel("Password").fill("a-wrong-guess");
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.locator("form [role=alert]")).toHaveText("Invalid email or password");
  await expect(page.getByRole("button", { name: "Sign in" })).toBeFocused();
  await page.getByLabel("Password").fill("correct-horse");
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(titles(page)).toHaveText(["Buy milk"]);
  await expect(page.getByText("2 l")).toBeVisible();
});

test("two users each see their own tasks only", async ({ newUser }) => {
  const alice = await newUser("Alice");
  const bob = await newUser("Bob");
  await add(alice, "Hers");
  await add(bob, "His");
  for (const [page, title] of [
    [alice, "Hers"],
    [bob, "His"],
  ] as const) {
    await expect(titles(page)).toHaveText([title]);
    await page.reload();
    await expect(titles(page)).toHaveText([title]);
  }
  await bob.getByRole("button", { name: "Complete all" }).click();
  await sent(bob);
  await alice.reload();
  await expect(alice.getByRole("checkbox", { name: "Hers" })).not.toBeChecked();
});

test("who signs out in one tab is signed out in all", async ({ newUser }) => {
  const page = await newUser("Alice");
  const other = await page.context().newPage();
  await other.goto("/");
  await other.getByRole("button", { name: "Sign out" }).click();
  await expect(page).toHaveURL(/sign-in/);
});

test("what somebody is typing outlives a sign-out in another tab", async ({ newUser }) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  const other = await page.context().newPage();
  await other.goto("/");
  await page.getByLabel("What is to be done?").fill("Write the");
  await page.getByRole("button", { name: "Edit Buy milk" }).click();
  await page.getByLabel("Title").fill("Buy oats");
  await other.getByRole("button", { name: "Sign out" }).click();
  await expect(page.getByText("You are signed out.")).toBeVisible();
  await expect(page.getByRole("link", { name: "Sign in" })).toHaveAttribute("target", "_blank");
  await expect(page.getByLabel("Title")).toHaveValue("Buy oats");

  const question = page.waitForEvent("dialog");
  await page.evaluate(() => void setTimeout(() => window.location.reload()));
  await (await question).dismiss(); // "Leave site?" No
  let questions = 0;
  page.on("dialog", (dialog) => {
    questions += 1;
    void dialog.dismiss();
  });
  await page.getByLabel("Title").press("Escape");
  await page.evaluate(() => window.dispatchEvent(new Event("focus"))); // it looks again, and the page stays
  await page.waitForTimeout(500);
  await expect(page.getByLabel("What is to be done?")).toHaveValue("Write the");
  await page.getByLabel("What is to be done?").fill("");
  await expect(page.getByText("Your session has ended.")).toBeVisible();
  expect(questions).toBe(0);
});

test("a session that ended elsewhere leads to the sign-in page", async ({ newUser }) => {
  const page = await newUser("Alice");
  await add(page, "Hers");
  await page.context().clearCookies();
  await page.reload();
  await expect(page).toHaveURL(/sign-in/);
});

test("a tab of a user who has left shows and sends nothing of the next one", async ({ newUser, stack }) => {
  const hers = await newUser("Alice");
  await add(hers, "Hers");
  await hers.getByLabel("What is to be done?").fill("A thought"); // which keeps the tab from leaving
  const his = await hers.context().newPage();
  await his.goto("/");
  await his.getByRole("button", { name: "Sign out" }).click();
  await his.getByRole("link", { name: "Sign up" }).click();
  await his.getByLabel("Name").fill("Bob");
  await his.getByLabel("E-mail").fill(`${crypto.randomUUID()}@example.com`);
  await his.getByLabel("Password").fill("correct-horse");
  await his.getByRole("button", { name: "Sign up" }).click();
  await add(his, "His");
  await expect(hers.getByText("Somebody else has signed in.")).toBeVisible();
  await expect(titles(hers)).toHaveCount(0);
  await hers.getByRole("button", { name: "Add", exact: true }).click();
  await expect(hers.getByLabel("What is to be done?")).toHaveValue("A thought"); // it was not taken
  await hers.getByLabel("What is to be done?").fill("");
  await expect(hers).toHaveURL(`${stack.origin}/`);
  await expect(titles(hers)).toHaveText(["His"]); // it has left, and is Bob's now
  await his.context().setOffline(true);
  await expect(titles(his)).toHaveText(["His"]); // and has removed nothing of his
  expect((await apiOf(his, stack).list()).map(({ title }) => title)).toEqual(["His"]);
});

test("what was not sent outlives a sign-in after which the session cannot be read", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await expect(page.getByText("Nothing to do yet")).toBeVisible();
  const session = await page.request.get("/api/auth/get-session", { headers: fromSomewhere() });
  const { user } = (await session.json()) as { user: { email: string } };
  await page.route("**/api/tasks", (route) => route.abort());
  await addUnsent(page, "Buy milk");
  await page.context().clearCookies();
  await page.reload();
  await expect(page.getByText("1 change waits on this device.")).toBeVisible();
  await page.unroute("**/api/tasks");
  await page.route("**/api/auth/get-session*", (route) => route.abort());
  await page.getByLabel("E-mail").fill(user.email);
  await page.getByLabel("Password").fill("correct-horse");
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(titles(page)).toHaveText(["Buy milk"]);
  await sent(page);
  await taskOf(page, stack, "Buy milk");
});
