import type { Page } from "@playwright/test";

import { add, expect, gate, seed, test, titles } from "./stack";

test("a keyboard is enough, and never loses its place", async ({ newUser }) => {
  const page = await newUser("Alice");
  const press = async (...keys: string[]) => {
    for (const key of keys) await page.keyboard.press(key);
  };
  await page.getByLabel("What is to be done?").focus();
  for (const title of ["First", "Second", "Third"]) {
    await page.keyboard.type(title);
    await press("Enter");
    await expect(page.getByRole("checkbox", { name: title })).toBeEnabled();
  }
  await expect(page.getByLabel("What is to be done?")).toBeFocused();

  await press("Tab", "Tab", "Tab", "ArrowRight"); // by Add and the search to the filter
  await expect(page.getByRole("radio", { name: "Active" })).toBeChecked();
  await press("Tab");
  await expect(page.getByRole("checkbox", { name: "Third" })).toBeFocused();
  await press("Space");
  await expect(titles(page)).toHaveText(["Second", "First"]);
  await expect(page.getByRole("checkbox", { name: "Second" })).toBeFocused();
  await press("Tab", "Enter");
  await expect(page.getByLabel("Title")).toBeFocused();
  await page.keyboard.type(", changed");
  await press("Enter");
  await expect(titles(page)).toHaveText(["Second, changed", "First"]);
  await expect(page.getByRole("button", { name: "Edit Second, changed" })).toBeFocused();
  await press("Enter", "Escape");
  await expect(page.getByRole("button", { name: "Edit Second, changed" })).toBeFocused();
  await press("Tab", "Enter");
  await expect(titles(page)).toHaveText(["First"]);
  await expect(page.getByRole("button", { name: "Delete First" })).toBeFocused();
  await press("Enter");
  await expect(page.getByText("Nothing left to do.")).toBeVisible();
  await expect(page.getByRole("region", { name: "Your tasks" })).toBeFocused();

  await press("Tab");
  await page.keyboard.type("zebra");
  await expect(page.getByText("No task matches “zebra”.")).toBeVisible();
  await page.getByRole("button", { name: "Clear the search" }).press("Enter");
  await expect(page.getByRole("region", { name: "Your tasks" })).toBeFocused();
});

test("the keyboard's place is kept when what had it is gone", async ({ newUser, secondDevice, stack }) => {
  const page = await newUser("Alice");
  const list = page.getByRole("region", { name: "Your tasks" });
  await seed(page, stack, 43);
  await page.reload();
  await page.getByRole("button", { name: "Load more" }).press("Enter");
  await expect(page.getByText("40 of 43 tasks")).toBeVisible();
  await expect(page.getByRole("button", { name: "Load more" })).toBeFocused(); // there is more
  await page.getByRole("button", { name: "Load more" }).press("Enter");
  await expect(page.getByRole("checkbox", { name: "Task 3", exact: true })).toBeFocused(); // the first of what came

  await page.getByRole("button", { name: "Delete Task 1", exact: true }).press("Enter"); // the last
  await expect(page.getByRole("button", { name: "Delete Task 2", exact: true })).toBeFocused();
  await page.getByRole("button", { name: "Clear completed" }).press("Enter");
  await page.keyboard.press("Escape");
  await expect(page.getByRole("button", { name: "Clear completed" })).toBeFocused();
  await page.getByLabel("What is to be done?").fill("One more");
  await page.getByRole("button", { name: "Add", exact: true }).press("Enter");
  await expect(page.getByLabel("What is to be done?")).toBeFocused();
  await expect(page.getByText("Added “One more”.")).toBeAttached();

  const other = await secondDevice(page);
  await other.getByRole("button", { name: "Delete One more" }).click();
  await expect(other.getByText("Deleted “One more”.")).toBeAttached();
  await page.getByRole("checkbox", { name: "One more" }).press("Space"); // it was deleted elsewhere
  await expect(page.getByRole("checkbox", { name: "One more" })).toHaveCount(0);
  await expect(list).toBeFocused();
  await page.getByRole("button", { name: "Dismiss" }).press("Enter");
  await expect(page.getByRole("button", { name: "Dismiss" })).toHaveCount(0);
  await expect(list).toBeFocused();
});

test("a conflict takes the keyboard from nobody who types, and gives it back", async ({ newUser, secondDevice }) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  const other = await secondDevice(page);
  for (const [title, choice] of [
    ["Buy rice", "Use the other version"],
    ["Buy oats", "Delete it anyway"],
  ] as const) {
    await other.reload();
    await other.getByRole("button", { name: "Edit" }).click();
    await other.getByLabel("Title").fill(title);
    await other.getByRole("button", { name: "Save" }).click();
    await expect(other.getByText(`Saved “${title}”.`)).toBeAttached();
    const answer = gate();
    await page.route("**/api/tasks/*", async (route) => {
      await answer.held;
      await route.fallback();
    });
    const asked = page.waitForRequest("**/api/tasks/*");
    await page.getByRole("button", { name: "Delete" }).click();
    await asked;
    await page.getByLabel("What is to be done?").focus();
    await page.unroute("**/api/tasks/*");
    answer.give();
    await expect(page.getByText(`“${title}” was changed elsewhere`)).toBeVisible();
    await expect(page.getByLabel("What is to be done?")).toBeFocused();
    await page.getByRole("button", { name: choice }).press("Enter");
    await expect(page.getByRole("region", { name: "Your tasks" })).toBeFocused();
  }
});

test("what was loaded, or Escape in an input method, takes nothing from who types", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await seed(page, stack, 21);
  await page.reload();
  const answer = gate();
  await page.route(/cursor=/, async (route) => {
    await answer.held;
    await route.fallback();
  });
  const asked = page.waitForRequest(/cursor=/);
  await page.getByRole("button", { name: "Load more" }).press("Enter");
  await asked;
  await page.getByLabel("What is to be done?").focus();
  answer.give();
  await expect(titles(page)).toHaveCount(21);
  await page.waitForTimeout(100); // the frame in which the focus would move is over
  await expect(page.getByLabel("What is to be done?")).toBeFocused();

  await page.getByRole("button", { name: "Edit Task 21" }).click();
  await page.getByLabel("Title").dispatchEvent("keydown", { key: "Escape", isComposing: true });
  await expect(page.getByLabel("Title")).toBeVisible();
  await page.getByLabel("Title").press("Escape");
  await expect(page.getByLabel("Title")).toHaveCount(0);
});

test("a screen reader hears each message, the same twice too", async ({ newUser }) => {
  const page = await newUser("Alice");
  const heard = await listen(page);
  await add(page, "Buy milk");
  await expect.poll(heard).toContain("Added “Buy milk”.");
  await page.getByLabel("What is to be done?").fill("Buy milk");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await expect(titles(page)).toHaveCount(2);
  await expect.poll(async () => (await heard()).filter((text) => text === "Added “Buy milk”.").length).toBe(2);
  await expect.poll(heard).toContain("2 tasks");
  await page.getByLabel("Search").fill("zebra");
  await expect.poll(heard).toContain("No task matches “zebra”.");
});

/** Returns what is told from now on by what tells it already: some screen readers miss what comes with its text. */
async function listen(page: Page) {
  const heard: string[] = [];
  await page.exposeFunction("hear", (text: string) => heard.push(text));
  await page.evaluate(() => {
    for (const region of document.querySelectorAll("[role=status]")) {
      const hear = () => (window as unknown as { hear: (text: string | null) => void }).hear(region.textContent);
      new MutationObserver(hear).observe(region, { childList: true, characterData: true, subtree: true });
    }
  });
  return async () => heard;
}
