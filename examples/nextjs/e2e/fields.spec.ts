/** Due dates, priorities and tags: adding, editing, filtering and sorting. */

import { add, apiOf, expect, row, sent, taskOf, test, titles } from "./stack";

test("all fields are added by keyboard alone, and shown", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await page.getByLabel("What is to be done?").focus();
  await page.keyboard.type("Pay the rent");
  await page.keyboard.press("Tab"); // Add
  await page.keyboard.press("Tab");
  await page.keyboard.type("By transfer");
  await page.keyboard.press("Tab");
  await page.keyboard.type("03012030"); // month, day and year, as this browser's language has them
  await page.getByLabel("Priority").focus();
  await page.keyboard.type("High");
  await page.keyboard.press("Tab");
  await page.keyboard.type("home, , home");
  await page.keyboard.press("Enter"); // which adds the tag, not the task
  await page.keyboard.type("money");
  await page.keyboard.press("Enter");
  await page.keyboard.type("wrong,");
  await page.keyboard.press("Backspace");
  await page.keyboard.press("Enter");
  await expect(titles(page)).toHaveText(["Pay the rent"]);
  await sent(page);
  expect(await taskOf(page, stack, "Pay the rent")).toMatchObject({
    description: "By transfer",
    due_date: "2030-03-01",
    priority: "high",
    tags: ["home", "money"],
  });
  for (const text of ["1 March 2030", "High priority", "home", "money"]) {
    await expect(row(page, "rent").getByText(text)).toBeVisible();
  }
});

test("all fields are edited by touch", async ({ newUser, stack }) => {
  const page = await newUser("Alice", { hasTouch: true, viewport: { width: 360, height: 740 } });
  const fields = { due_date: "2030-03-01", priority: "high", tags: ["a, b", "home"], description: "x" } as const;
  await apiOf(page, stack).create({ title: "Pay the rent", ...fields, tags: [...fields.tags] });
  await page.reload();
  await row(page, "rent").getByRole("button", { name: "Edit" }).tap();
  await page.getByLabel("Due date").fill("");
  await page.getByRole("combobox", { name: "Priority" }).selectOption("Low");
  await page.getByRole("button", { name: "Remove tag home" }).tap();
  await expect(page.getByLabel("Tags")).toBeFocused();
  await page.getByLabel("Tags").fill("money"); // saved without a comma or Enter
  await page.getByRole("button", { name: "Save" }).tap();
  await sent(page);
  expect(await taskOf(page, stack, "Pay the rent")).toMatchObject({
    description: "x",
    due_date: null,
    priority: "low",
    tags: ["a, b", "money"],
  });
});

test("tasks are filtered by tag and priority and sorted, and the address remembers it", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  const api = apiOf(page, stack);
  await api.create({ title: "b 10", priority: "low", tags: ["home"], due_date: "2030-01-02" });
  await api.create({ title: "a", priority: "high", tags: ["home", "work"] });
  await api.create({ title: "B 9", due_date: "2030-01-01", tags: ["work"] });
  await page.reload();
  await expect(titles(page)).toHaveText(["B 9", "a", "b 10"]);
  await page.getByRole("button", { name: "Filter and sort" }).click();
  for (const [order, expected] of [
    ["Due date", ["B 9", "b 10", "a"]],
    ["Priority", ["a", "b 10", "B 9"]],
    ["Title", ["a", "B 9", "b 10"]],
    ["Last change", ["B 9", "a", "b 10"]],
  ] as const) {
    await page.getByRole("combobox", { name: "Sort by" }).selectOption(order);
    await expect(titles(page)).toHaveText([...expected]);
  }
  await page.getByRole("combobox", { name: "Tag" }).selectOption("work");
  await expect(titles(page)).toHaveText(["B 9", "a"]);
  await expect(page.getByText("2 of 3 tasks")).toBeVisible();
  await page.getByRole("combobox", { name: "Priority" }).selectOption("None");
  await expect(titles(page)).toHaveText(["B 9"]);
  await page.reload();
  await expect(titles(page)).toHaveText(["B 9"]);
  await expect(page.getByRole("button", { name: "Filter and sort, 3 chosen" })).toBeVisible();
  await page.getByRole("combobox", { name: "Priority" }).selectOption("Medium");
  await expect(page.getByText("No task matches these filters.")).toBeVisible();
  await page.getByRole("button", { name: "Show all" }).click();
  await expect(titles(page)).toHaveText(["B 9", "a", "b 10"]);
});

test("a conflict about a due date and tags shows both versions", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await add(page, "Pay the rent");
  const { id } = await taskOf(page, stack, "Pay the rent");
  await row(page, "rent").getByRole("button", { name: "Edit" }).click();
  await page.getByLabel("Due date").fill("2030-03-01");
  await apiOf(page, stack).update(id, { due_date: "2030-04-01", tags: ["home"] });
  await page.getByRole("button", { name: "Save" }).click();
  const conflict = page.getByRole("alert", { name: "Conflict" });
  await expect(conflict.getByText("1 April 2030")).toBeVisible();
  await expect(conflict.getByText("1 March 2030")).toBeVisible();
  await page.getByRole("button", { name: "Keep mine" }).click();
  await sent(page);
  expect(await taskOf(page, stack, "Pay the rent")).toMatchObject({ due_date: "2030-03-01", tags: ["home"] });
});
