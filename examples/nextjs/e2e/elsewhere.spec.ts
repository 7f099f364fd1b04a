/** Changes from another device, written through the API, and conflicts with them. */

import type { Page } from "@playwright/test";

import { add, addUnsent, apiOf, expect, row, sent, type Stack, taskOf, test, titles } from "./stack";

test.describe("a task that was changed elsewhere", () => {
  for (const [choice, kept] of [
    ["Keep mine", "Buy oats"],
    ["Use the other version", "Buy rice"],
  ] as const) {
    test(`shows both versions: ${choice}`, async ({ newUser, stack }) => {
      const page = await newUser("Alice");
      await add(page, "Buy milk");
      await row(page, "milk").getByRole("button", { name: "Edit" }).click();
      await renameElsewhere(page, stack, "Buy milk", "Buy rice");
      await page.getByLabel("Title").fill("Buy oats");
      await page.getByRole("button", { name: "Save" }).click();

      const conflict = page.getByRole("alert", { name: "Conflict" });
      await expect(conflict).toBeFocused();
      await expect(conflict).toContainText("“Buy rice” was changed elsewhere");
      await expect(conflict).toContainText("Buy oats");
      await expect(titles(page)).toHaveText(["Buy rice"]);
      await page.getByRole("button", { name: choice }).click();
      await expect(conflict).toHaveCount(0);
      await expect(titles(page)).toHaveText([kept]);
      await sent(page);
      await taskOf(page, stack, kept);
    });
  }

  test("keeps both when different fields were changed", async ({ newUser, stack }) => {
    const page = await newUser("Alice");
    await add(page, "Buy milk");
    const { id } = await taskOf(page, stack, "Buy milk");
    await apiOf(page, stack).update(id, { is_completed: true });
    const refused = page.waitForResponse((answer) => answer.status() === 412);
    await edit(page, "Buy milk", "Buy oats");
    await refused;
    await sent(page);
    await expect(page.getByRole("checkbox", { name: "Buy oats" })).toBeChecked();
    await expect(page.getByText("changed elsewhere")).toHaveCount(0);
  });

  test("is not overwritten by an editor that was opened before the API had it", async ({ newUser, stack }) => {
    const page = await newUser("Alice");
    await expect(page.getByText("Nothing to do yet")).toBeVisible();
    await page.context().setOffline(true);
    await addUnsent(page, "Buy milk");
    await page.getByRole("button", { name: "Edit Buy milk" }).click();
    await page.context().setOffline(false);
    await sent(page);
    await renameElsewhere(page, stack, "Buy milk", "Buy rice");
    const read = page.waitForResponse((answer) => answer.url().includes("/changes") && answer.status() === 200);
    await page.evaluate(() => window.dispatchEvent(new Event("focus")));
    await read;
    await page.waitForTimeout(500); // until it is kept
    await page.getByLabel("Title").fill("Buy oats");
    await page.getByRole("button", { name: "Save" }).click();
    await expect(page.getByText("“Buy rice” was changed elsewhere")).toBeVisible();
    await taskOf(page, stack, "Buy rice");
  });

  test("is not deleted unseen", async ({ newUser, stack }) => {
    const page = await newUser("Alice");
    await add(page, "Buy milk");
    await renameElsewhere(page, stack, "Buy milk", "Buy rice");
    await row(page, "milk").getByRole("button", { name: "Delete" }).click();
    // The deletion is sent when it can no longer be undone.
    await expect(page.getByText("“Buy rice” was changed elsewhere")).toBeVisible({ timeout: 20_000 });
    await expect(titles(page)).toHaveText(["Buy rice"]);
    await page.getByRole("button", { name: "Delete it anyway" }).click();
    await sent(page);
    expect(await apiOf(page, stack).list()).toEqual([]);
    await expect(page.getByText("Nothing to do yet")).toBeVisible();
  });

  test("or deleted is said to be so", async ({ newUser, stack }) => {
    const page = await newUser("Alice");
    await add(page, "Buy milk");
    await removeElsewhere(page, stack, "Buy milk");
    await page.getByRole("checkbox", { name: "Buy milk" }).click();
    await expect(page.getByText("Could not complete “Buy milk”. It was deleted elsewhere.")).toBeVisible();
    await expect(page.getByText("Nothing to do yet")).toBeVisible();
    await page.getByRole("button", { name: "Dismiss" }).click();
    await expect(page.getByText("Could not")).toHaveCount(0);
  });

  test("is asked about once, however often it was edited", async ({ newUser, stack }) => {
    const page = await newUser("Alice");
    await add(page, "Buy milk", "2 l");
    await page.context().setOffline(true);
    await edit(page, "Buy milk", "Buy oats");
    await edit(page, "Buy oats", "Buy rye");
    await row(page, "Buy rye").getByRole("button", { name: "Edit" }).click();
    await page.getByLabel("Details").fill("1 kg");
    await page.getByRole("button", { name: "Save" }).click();
    await expect(page.getByText("3 changes are saved on this device")).toBeVisible();
    await renameElsewhere(page, stack, "Buy milk", "Buy rice");
    await page.context().setOffline(false);
    await expect(page.getByText("You are offline.")).toHaveCount(0);

    const conflict = page.getByRole("alert", { name: "Conflict" });
    await expect(conflict).toHaveCount(1);
    await expect(conflict).toContainText("Buy rye");
    await conflict.getByRole("button", { name: "Keep mine" }).click();
    await sent(page);
    await expect(conflict).toHaveCount(0);
    expect(await taskOf(page, stack, "Buy rye")).toMatchObject({ description: "1 kg" });
  });

  test("keeps its editor open while it leaves the list", async ({ newUser, stack }) => {
    const page = await newUser("Alice");
    await add(page, "Buy milk");
    await page.getByRole("radio", { name: "Active" }).check();
    await row(page, "milk").getByRole("button", { name: "Edit" }).click();
    await page.getByLabel("Title").fill("Buy oats");
    const { id } = await taskOf(page, stack, "Buy milk");
    await apiOf(page, stack).update(id, { is_completed: true });
    await add(page, "Write the talk"); // which reads what changed
    await page.getByLabel("Search").fill("talk");
    await expect(page).toHaveURL(/talk/);
    await expect(page.getByLabel("Title")).toHaveValue("Buy oats");
    await page.getByRole("button", { name: "Save" }).click();
    await sent(page);
    await expect(titles(page)).toHaveText(["Write the talk"]);
    await page.getByRole("radio", { name: "Completed" }).check();
    await page.getByLabel("Search").fill("");
    await expect(titles(page)).toHaveText(["Buy oats"]);
  });
});

test.describe("what is typed about a task that was deleted elsewhere", () => {
  for (const [choice, kept] of [
    ["Add as a new task", ["Buy oats", "Write the talk"]],
    ["Discard", ["Write the talk"]],
  ] as const) {
    test(`is kept: ${choice}`, async ({ newUser, stack }) => {
      const page = await newUser("Alice");
      await add(page, "Write the talk");
      await add(page, "Buy milk", "2 l");
      await row(page, "milk").getByRole("button", { name: "Edit" }).click();
      await page.getByLabel("Title").fill("Buy oats");
      await removeElsewhere(page, stack, "Buy milk");
      await page.getByRole("checkbox", { name: "Write the talk" }).click(); // after which what changed is read
      await expect(page.getByText("This task was deleted elsewhere.")).toBeVisible();
      await expect(page.getByLabel("Title")).toHaveValue("Buy oats");
      await page.getByRole("button", { name: choice }).click();
      await expect(titles(page)).toHaveText([...kept]);
      await expect(page.getByRole("region", { name: "Your tasks" })).toBeFocused();
      if (choice === "Discard") return;
      await sent(page);
      await expect(row(page, "Buy oats")).toContainText("2 l");
    });
  }

  test("is kept although it was saved", async ({ newUser, stack }) => {
    const page = await newUser("Alice");
    await add(page, "Buy milk", "2 l");
    await removeElsewhere(page, stack, "Buy milk");
    await edit(page, "Buy milk", "Buy oats");
    await expect(page.getByText("Could not save “Buy oats”. It was deleted elsewhere.")).toBeVisible();
    await page.getByRole("button", { name: "Add as a new task" }).click();
    await sent(page);
    await expect(titles(page)).toHaveText(["Buy oats"]);
    await expect(row(page, "Buy oats")).toContainText("2 l");
    await expect(page.getByText("Could not")).toHaveCount(0);
  });
});

async function edit(page: Page, from: string, to: string) {
  await page.getByRole("button", { name: `Edit ${from}` }).click();
  await page.getByLabel("Title").fill(to);
  await page.getByRole("button", { name: "Save" }).click();
}

async function renameElsewhere(page: Page, stack: Stack, from: string, to: string) {
  const { id } = await taskOf(page, stack, from);
  await apiOf(page, stack).update(id, { title: to });
}

async function removeElsewhere(page: Page, stack: Stack, title: string) {
  const { id } = await taskOf(page, stack, title);
  await apiOf(page, stack).remove(id);
}
