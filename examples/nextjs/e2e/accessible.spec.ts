import AxeBuilder from "@axe-core/playwright";
import type { Page } from "@playwright/test";

import { add, expect, row, test } from "./stack";

const PHONE = { width: 360, height: 740 };

async function expectNoViolations(page: Page) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  expect(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])).toEqual([]);
  const tooWide = await page.evaluate(
    () => document.documentElement.scrollWidth > document.documentElement.clientWidth,
  );
  expect(tooWide).toBe(false);
}

for (const colorScheme of ["light", "dark"] as const) {
  test(`axe finds nothing wrong in the ${colorScheme}`, async ({ newUser, secondDevice, browser, stack }) => {
    const page = await newUser("Alice", { colorScheme, viewport: PHONE });
    await expect(page.getByText("Nothing to do yet")).toBeVisible();
    await expectNoViolations(page);

    await add(page, "Buy milk", "2 l");
    await add(page, "a-word-without-an-end".repeat(8));
    await page.getByRole("checkbox", { name: "word" }).check();
    await expectNoViolations(page);

    const other = await secondDevice(page);
    await row(page, "milk").getByRole("button", { name: "Edit" }).click();
    await expectNoViolations(page);
    await row(other, "milk").getByRole("button", { name: "Edit" }).click();
    await other.getByLabel("Title").fill("Buy rice");
    await other.getByRole("button", { name: "Save" }).click();
    await expect(other.getByText("Saved “Buy rice”.")).toBeAttached();
    await page.getByLabel("Title").fill("Buy oats");
    await page.getByRole("button", { name: "Save" }).click();
    await expect(page.getByText("changed elsewhere")).toBeVisible();
    await expectNoViolations(page);
    await page.getByRole("button", { name: "Keep mine" }).click();

    await page.getByRole("button", { name: "Clear completed" }).click();
    await expectNoViolations(page);
    await page.getByRole("button", { name: "Cancel" }).click();

    await page.context().setOffline(true);
    await page.getByRole("checkbox", { name: "Buy oats" }).check();
    await expect(page.getByText("One change waits")).toBeVisible();
    await expectNoViolations(page);
    await page.context().setOffline(false);
    await expect(page.getByText("Completed “Buy oats”.")).toBeAttached();

    await page.route("**/api/tasks*", (route) => route.abort());
    await page.getByLabel("What is to be done?").fill("Never");
    await page.getByRole("button", { name: "Add", exact: true }).click();
    await expect(page.getByText("Could not add “Never”.")).toBeVisible();
    await expect(page.getByText("This list may be out of date.")).toBeVisible();
    await expectNoViolations(page);
    await page.getByLabel("Search").fill("zebra");
    await expect(page.getByText("Your tasks could not be loaded.")).toBeVisible();
    await expectNoViolations(page);
    await page.unroute("**/api/tasks*");
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
