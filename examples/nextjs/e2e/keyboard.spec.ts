import type { Page } from "@playwright/test";

import { add, apiOf, expect, gate, row, seed, sent, taskOf, test, titles } from "./stack";

test("a keyboard is enough, and never loses its place", async ({ newUser }) => {
  const page = await newUser("Alice");
  const press = async (...keys: string[]) => {
    for (const key of keys) await page.keyboard.press(key);
  };
  await page.getByLabel("What is to be done?").focus();
  for (const title of ["First", "Second", "Third"]) {
    await page.keyboard.type(title);
    await press("Enter");
    await expect(page.getByRole("checkbox", { name: title })).toBeVisible();
  }
  await expect(page.getByLabel("What is to be done?")).toBeFocused();

  // By Add, the agenda, the search and its filters to the choice of what is shown.
  await press("Tab", "Tab", "Tab", "Tab", "Tab", "Tab", "Tab", "ArrowRight");
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

test("the keyboard's place is kept when what had it is gone", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  const list = page.getByRole("region", { name: "Your tasks" });
  await seed(page, stack, 3);
  await page.reload();
  await expect(page.getByText("3 tasks")).toBeVisible();
  await page.getByRole("button", { name: "Delete Task 1" }).press("Enter"); // the last
  await expect(page.getByRole("button", { name: "Delete Task 2" })).toBeFocused();
  await page.getByLabel("What is to be done?").fill("One more");
  await page.getByRole("button", { name: "Add", exact: true }).press("Enter");
  await expect(page.getByLabel("What is to be done?")).toBeFocused();
  await sent(page);

  await apiOf(page, stack).remove((await taskOf(page, stack, "One more")).id);
  await page.getByRole("checkbox", { name: "One more" }).press("Space");
  await expect(page.getByRole("checkbox", { name: "One more" })).toHaveCount(0);
  await expect(list).toBeFocused();
  await page.getByRole("button", { name: "Dismiss" }).press("Enter");
  await expect(page.getByRole("button", { name: "Dismiss" })).toHaveCount(0);
  await expect(list).toBeFocused();
});

test("a keyboard goes through a long list, and does not lose its place when that is scrolled", async ({
  newUser,
  stack,
}) => {
  const page = await newUser("Alice");
  await seed(page, stack, 60);
  await page.reload();
  await expect(page.getByText("60 tasks")).toBeVisible();
  await page.getByRole("checkbox", { name: "Task 60" }).focus();
  for (let number = 59; number >= 20; number--) {
    for (const _ of ["edit", "delete", "the next task"]) await page.keyboard.press("Tab");
    await expect(page.getByRole("checkbox", { name: `Task ${number}`, exact: true })).toBeFocused();
  }
  await expect(row(page, "Task 20")).toHaveAttribute("aria-posinset", "41");
  await expect(row(page, "Task 20")).toHaveAttribute("aria-setsize", "60");
  await page.evaluate(() => window.scrollTo(0, 0));
  await expect(page.getByRole("checkbox", { name: "Task 60" })).toBeVisible();
  await expect(page.getByRole("checkbox", { name: "Task 20" })).toBeFocused();
  await page.keyboard.press("Tab");
  await expect(page.getByRole("button", { name: "Edit Task 20" })).toBeFocused();
});

test("a conflict takes the keyboard from nobody who types, and gives it back", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  const { id } = await taskOf(page, stack, "Buy milk");
  await page.getByRole("button", { name: "Edit" }).click();
  await page.getByLabel("Title").fill("Buy oats");
  await apiOf(page, stack).update(id, { title: "Buy rice" });
  const answer = gate();
  await page.route(/\/api\/tasks\/[0-9a-f-]{36}$/, async (route) => {
    await answer.held;
    await route.fallback();
  });
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByLabel("What is to be done?").focus();
  answer.give();
  await expect(page.getByText("“Buy rice” was changed elsewhere")).toBeVisible();
  await expect(page.getByLabel("What is to be done?")).toBeFocused();
  await page.getByRole("button", { name: "Use the other version" }).press("Enter");
  await expect(page.getByRole("region", { name: "Your tasks" })).toBeFocused();
});

test("Escape closes an editor, but not while an input method uses it", async ({ newUser }) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  await page.getByRole("button", { name: "Edit Buy milk" }).click();
  await page.getByLabel("Title").dispatchEvent("keydown", { key: "Escape", isComposing: true });
  await expect(page.getByLabel("Title")).toBeVisible();
  await page.getByLabel("Title").press("Escape");
  await expect(page.getByLabel("Title")).toHaveCount(0);
});

test("a screen reader hears each message, the same twice too", async ({ newUser }) => {
  const page = await newUser("Alice");
  await expect(page.getByText("Nothing to do yet")).toBeVisible();
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
