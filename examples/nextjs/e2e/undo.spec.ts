/** Deletions can be taken back for some seconds, and are not lost when the tab is closed meanwhile. */

import { add, addUnsent, apiOf, expect, row, seed, sent, taskOf, test, titles } from "./stack";

test("a deletion is undone by a click, and nothing was sent", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk", "2 l");
  const before = await taskOf(page, stack, "Buy milk");
  await row(page, "milk").getByRole("button", { name: "Delete" }).click();
  await expect(titles(page)).toHaveCount(0);
  await page.getByRole("button", { name: "Undo" }).click();
  await expect(titles(page)).toHaveText(["Buy milk"]);
  await expect(page.getByRole("region", { name: "Your tasks" })).toBeFocused();
  await expect(page.getByRole("button", { name: "Undo" })).toHaveCount(0);
  await sent(page);
  expect(await taskOf(page, stack, "Buy milk")).toEqual(before);
});

test("a deletion is sent when the time is over, and other changes do not wait for it", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  await row(page, "milk").getByRole("button", { name: "Delete" }).click();
  await page.getByLabel("What is to be done?").fill("Write the talk");
  await page.keyboard.press("Enter");
  await expect.poll(async () => (await apiOf(page, stack).list()).length).toBe(2);
  await expect(page.getByRole("button", { name: "Undo" })).toBeVisible();
  await sent(page);
  await expect(page.getByRole("button", { name: "Undo" })).toHaveCount(0);
  expect((await apiOf(page, stack).list()).map(({ title }) => title)).toEqual(["Write the talk"]);
});

test("the cleared are undone by keyboard, in the order of their deletion", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await seed(page, stack, 4);
  await page.reload();
  for (const title of ["Task 1", "Task 2"]) await page.getByRole("checkbox", { name: title }).check();
  await page.getByRole("button", { name: "Delete Task 4" }).click();
  await page.getByRole("button", { name: "Clear completed" }).click();
  await expect(page.getByText("Deleted 2 tasks.")).toBeVisible();
  await expect(titles(page)).toHaveText(["Task 3"]);
  await page.keyboard.press("Control+z");
  await expect(titles(page)).toHaveText(["Task 3", "Task 2", "Task 1"]);
  await expect(page.getByText("Deleted “Task 4”.")).toBeVisible();
  await page.keyboard.press("Control+z");
  await expect(titles(page)).toHaveText(["Task 4", "Task 3", "Task 2", "Task 1"]);
  await sent(page);
  expect((await apiOf(page, stack).list()).length).toBe(4);
});

test("what is done after a clearing is not cleared", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await seed(page, stack, 2);
  await page.reload();
  await page.getByRole("checkbox", { name: "Task 1" }).check();
  await page.getByRole("button", { name: "Clear completed" }).click();
  await page.getByRole("checkbox", { name: "Task 2" }).check();
  await expect(titles(page)).toHaveText(["Task 2"]);
  await sent(page);
  expect((await apiOf(page, stack).list()).map(({ title, is_completed }) => [title, is_completed])).toEqual([
    ["Task 2", true],
  ]);
  await expect(titles(page)).toHaveText(["Task 2"]);
});

test("a deletion outlives a closed tab: it can be undone, or is sent, when the page is opened again", async ({
  newUser,
  stack,
}) => {
  const page = await newUser("Alice");
  await seed(page, stack, 2);
  await page.reload();
  await page.getByRole("button", { name: "Delete Task 1" }).click();
  await page.getByRole("button", { name: "Delete Task 2" }).click();
  await expect(titles(page)).toHaveCount(0);
  const context = page.context();
  await page.close();
  const again = await context.newPage();
  await again.goto("/");
  await again.getByRole("button", { name: "Undo" }).click();
  await expect(titles(again)).toHaveText(["Task 2"]);
  await again.close();
  expect((await apiOf(await context.newPage(), stack).list()).length).toBe(2); // nothing is lost
  const later = await context.newPage();
  await later.clock.install({ time: Date.now() + 60_000 });
  await later.goto("/");
  await sent(later);
  expect((await apiOf(later, stack).list()).map(({ title }) => title)).toEqual(["Task 2"]);
});

test("what another device has done since is neither cleared nor completed, though it is sent later", async ({
  newUser,
  secondDevice,
  stack,
}) => {
  const page = await newUser("Alice");
  await seed(page, stack, 3);
  await page.reload();
  const other = await secondDevice(page);
  await page.getByRole("checkbox", { name: "Task 1" }).check();
  await sent(page);
  await page.getByRole("button", { name: "Clear completed" }).click();
  await expect(titles(page)).toHaveText(["Task 3", "Task 2"]);
  const context = page.context();
  await page.close(); // before it was sent

  await other.reload();
  await other.getByRole("checkbox", { name: "Task 2" }).check();
  await sent(other);
  const later = await context.newPage();
  await later.clock.install({ time: Date.now() + 60_000 });
  await later.goto("/");
  await sent(later);
  const states = async () => (await apiOf(later, stack).list()).map(({ title, is_completed }) => [title, is_completed]);
  expect(await states()).toEqual([
    ["Task 3", false],
    ["Task 2", true],
  ]);

  await context.setOffline(true);
  await addUnsent(later, "Buy milk");
  await later.getByRole("button", { name: "Complete all" }).click();
  await add(other, "Write the talk");
  await context.setOffline(false);
  await sent(later);
  expect(await states()).toEqual([
    ["Buy milk", true],
    ["Write the talk", false],
    ["Task 3", true],
    ["Task 2", true],
  ]);
  await expect(later.getByRole("checkbox", { name: "Write the talk" })).not.toBeChecked();
});
