/** Every state is checked with axe, in light and dark, on a narrow phone. */

import AxeBuilder from "@axe-core/playwright";
import type { Page } from "@playwright/test";

import { add, addUnsent, apiOf, expect, row, sent, taskOf, test } from "./stack";

const PHONE = { width: 320, height: 640 };

async function expectNoViolations(page: Page) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  expect(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])).toEqual([]);
  const tooWide = await page.evaluate(
    () => document.documentElement.scrollWidth > document.documentElement.clientWidth,
  );
  expect(tooWide).toBe(false);
}

for (const colorScheme of ["light", "dark"] as const) {
  test(`axe finds nothing wrong in the ${colorScheme}`, async ({ newUser, browser, stack }) => {
    test.setTimeout(120_000);
    const page = await newUser("Alice", { colorScheme, viewport: PHONE });
    await expect(page.getByText("Nothing to do yet")).toBeVisible();
    await expectNoViolations(page);

    const api = apiOf(page, stack);
    await api.create({
      title: "Pay the rent",
      due_date: "2026-01-01",
      priority: "high",
      tags: ["home", "x".repeat(50)],
    });
    await api.create({ title: "Later", due_date: "2999-01-01", priority: "low" });
    await add(page, "Buy milk", "2 l");
    await add(page, "a-word-without-an-end".repeat(8));
    await page.getByRole("checkbox", { name: "word" }).check();
    await expect(row(page, "rent").getByText("Overdue:")).toBeVisible();
    await expectNoViolations(page);
    await page.getByRole("button", { name: "Filter and sort" }).click();
    await expectNoViolations(page);
    await page.getByRole("button", { name: "Filter and sort" }).click();
    await page.getByLabel("What is to be done?").fill("New");
    await page.getByLabel("Tags").fill("one,two,");
    await expectNoViolations(page);
    await page.getByLabel("What is to be done?").fill("");

    await row(page, "milk").getByRole("button", { name: "Edit" }).click();
    await expectNoViolations(page);
    await api.update((await taskOf(page, stack, "Buy milk")).id, { title: "Buy rice" });
    await page.getByLabel("Title").fill("Buy oats");
    await page.getByRole("button", { name: "Save" }).click();
    await expect(page.getByText("changed elsewhere")).toBeVisible();
    await expectNoViolations(page);
    await page.getByRole("button", { name: "Keep mine" }).click();
    await sent(page);

    await page.getByRole("button", { name: "Clear completed" }).click();
    await expect(page.getByRole("button", { name: "Undo" })).toBeVisible();
    await expectNoViolations(page);
    await page.getByRole("button", { name: "Undo" }).click();

    await page.context().setOffline(true);
    await page.getByRole("checkbox", { name: "Buy oats" }).check();
    await expect(page.getByText("1 change is saved on this device")).toBeVisible();
    await expectNoViolations(page);
    await page.context().setOffline(false);
    await sent(page);

    await page.route("**/api/tasks", (route) => route.abort());
    await addUnsent(page, "Never");
    await expect(page.getByText("The service cannot be reached.")).toBeVisible();
    await expectNoViolations(page);
    await page.getByRole("button", { name: "Sign out" }).click();
    await expect(page.getByRole("dialog")).toBeVisible();
    await expectNoViolations(page);
    await page.getByRole("button", { name: "Stay signed in" }).click();
    const refusal = { status: 422, json: { detail: "No." }, headers: { "Access-Control-Allow-Origin": "*" } };
    await page.route("**/api/tasks", (route) => route.fulfill(refusal));
    await page.getByRole("button", { name: "Try again" }).first().click();
    await expect(page.getByText("Could not add “Never”.")).toBeVisible();
    await expectNoViolations(page);
    await page.getByLabel("Search").fill("zebra");
    await expect(page.getByText("No task matches “zebra”.")).toBeVisible();
    await expectNoViolations(page);

    const stranger = await browser.newContext({ baseURL: stack.origin, colorScheme, viewport: PHONE });
    const signIn = await stranger.newPage();
    await signIn.goto("/sign-in?ended");
    await expectNoViolations(signIn);
    await signIn.getByLabel("E-mail").fill("nobody@example.com");
    await signIn.getByLabel("Password").fill("a-wrong-guess");
    await signIn.getByRole("button", { name: "Sign in" }).click();
    await expect(signIn.getByText("Invalid email or password")).toBeVisible();
    await expectNoViolations(signIn);
    await signIn.goto("/sign-up");
    await expectNoViolations(signIn);
    await stranger.close();
  });
}
