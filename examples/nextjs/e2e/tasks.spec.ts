import { add, apiOf, expect, row, seed, sent, taskOf, test, titles } from "./stack";

const ANY_ORIGIN = { "Access-Control-Allow-Origin": "*" };

test("a task is added, edited, completed, reopened and deleted", async ({ newUser }) => {
  const page = await newUser("Alice");
  await add(page, "  Buy milk  ", "2 l");
  await add(page, "Write the talk");
  await expect(titles(page)).toHaveText(["Write the talk", "Buy milk"]);

  await row(page, "milk").getByRole("button", { name: "Edit" }).click();
  await expect(page.getByLabel("Title")).toBeFocused();
  await page.getByLabel("Title").fill("Buy oats");
  await page.getByLabel("Details").fill("");
  await page.getByRole("button", { name: "Save" }).click();
  await expect(titles(page)).toHaveText(["Write the talk", "Buy oats"]);
  await expect(page.getByText("2 l")).toHaveCount(0);

  await page.getByRole("checkbox", { name: "Buy oats" }).check();
  await expect(page.getByText("Completed “Buy oats”.")).toBeAttached();
  await page.reload();
  await expect(page.getByRole("checkbox", { name: "Buy oats" })).toBeChecked();
  await page.getByRole("checkbox", { name: "Buy oats" }).uncheck();
  await row(page, "talk").getByRole("button", { name: "Delete" }).click();
  await expect(page.getByText("Deleted “Write the talk”.")).toBeAttached();
  await page.reload();
  await expect(titles(page)).toHaveText(["Buy oats"]);
  await expect(page.getByRole("checkbox", { name: "Buy oats" })).not.toBeChecked();
});

test("hasty changes of one task all arrive, in their order", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  const checkbox = page.getByRole("checkbox", { name: "Buy milk" });
  const accepted: unknown[] = [];
  page.on("response", (answer) => {
    const request = answer.request();
    if (request.method() === "PATCH" && answer.ok()) accepted.push(request.postDataJSON());
  });
  await checkbox.evaluate(async (box: HTMLInputElement) => {
    for (let clicks = 0; clicks < 5; clicks++) {
      box.click();
      await Promise.resolve(); // React shows it; the list does not have it yet
    }
  });
  await row(page, "milk").getByRole("button", { name: "Edit" }).click();
  await page.getByLabel("Title").fill("Buy oats");
  await page.getByRole("button", { name: "Save" }).click();
  await sent(page);
  expect(await taskOf(page, stack, "Buy oats")).toMatchObject({ is_completed: true });
  const states = [true, false, true, false, true].map((is_completed) => ({ is_completed }));
  expect(accepted).toEqual([...states, { title: "Buy oats" }]);
});

test("a new title leaves the details as they were", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await apiOf(page, stack).create({ title: "Buy milk", description: "  2 l\n" });
  await page.reload();
  await page.getByRole("button", { name: "Edit Buy milk" }).click();
  await page.getByLabel("Title").fill("Buy oats");
  await page.getByRole("button", { name: "Save" }).click();
  await sent(page);
  expect(await taskOf(page, stack, "Buy oats")).toMatchObject({ description: "  2 l\n" });
});

test("the second click of a double click does nothing to the row that comes under the pointer", async ({
  newUser,
  stack,
}) => {
  const page = await newUser("Alice");
  await seed(page, stack, 6);
  await page.reload();
  await page.getByRole("button", { name: "Delete Task 6" }).dblclick();
  await expect(titles(page)).toHaveText(["Task 5", "Task 4", "Task 3", "Task 2", "Task 1"]);
  await page.getByRole("radio", { name: "Active" }).check();
  await page.getByRole("checkbox", { name: "Task 5" }).dblclick();
  await expect(titles(page)).toHaveText(["Task 4", "Task 3", "Task 2", "Task 1"]);
  await page.getByText("Task 4").dblclick();
  await expect(titles(page)).toHaveText(["Task 3", "Task 2", "Task 1"]);

  await sent(page);
  await page.route(/\/api\/tasks\/[0-9a-f-]{36}$/, (route) =>
    route.fulfill({ status: 500, json: {}, headers: ANY_ORIGIN }),
  );
  for (const title of ["Task 3", "Task 2"]) await page.getByRole("checkbox", { name: title }).click();
  await expect(page.getByRole("button", { name: "Dismiss" })).toHaveCount(2);
  await page.getByRole("button", { name: "Dismiss" }).first().dblclick();
  await expect(page.getByText("Could not complete “Task 3”.")).toHaveCount(0);
  await expect(page.getByText("Could not complete “Task 2”.")).toBeVisible();
  await expect(titles(page)).toHaveText(["Task 3", "Task 2", "Task 1"]);
});

test("a task that is added is seen, whatever was looked at", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await page.getByRole("radio", { name: "Completed" }).check();
  await add(page, "Buy milk");
  await page.getByLabel("Search").fill("zebra");
  await expect(page.getByText("No task matches “zebra”.")).toBeVisible();
  await add(page, "Write the talk");
  await expect(titles(page)).toHaveText(["Write the talk", "Buy milk"]);
  await expect(page).toHaveURL(`${stack.origin}/`);
  await expect(page.getByLabel("Search")).toHaveValue("");
  await expect(page.getByRole("radio", { name: "All" })).toBeChecked();
});

test("tasks are filtered and searched, and the address remembers it", async ({ newUser }) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  await add(page, "Buy oats", "for the Müsli");
  await add(page, "Write the talk");
  await page.getByRole("checkbox", { name: "Buy milk" }).check();

  await page.getByRole("radio", { name: "Active" }).check();
  await expect(titles(page)).toHaveText(["Write the talk", "Buy oats"]);
  await page.getByLabel("Search").fill("müsli");
  await expect(titles(page)).toHaveText(["Buy oats"]);
  await page.getByRole("radio", { name: "Completed" }).check();
  await expect(page.getByText("No task matches “müsli”.")).toBeVisible();
  await page.getByRole("button", { name: "Clear the search" }).click();
  await expect(titles(page)).toHaveText(["Buy milk"]);
  await expect(page.getByLabel("Search")).toHaveValue("");

  await page.getByRole("checkbox", { name: "Buy milk" }).click();
  await expect(page.getByText("Nothing completed yet.")).toBeVisible();
  await page.getByLabel("Search").fill("buy");
  await page.getByRole("radio", { name: "Active" }).check();
  await expect(titles(page)).toHaveText(["Buy oats", "Buy milk"]);
  await page.reload();
  await expect(titles(page)).toHaveText(["Buy oats", "Buy milk"]);
  await expect(page.getByLabel("Search")).toHaveValue("buy");
  await expect(page.getByRole("radio", { name: "Active" })).toBeChecked();
});

test("all are completed and reopened, and the completed cleared", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await seed(page, stack, 25);
  await page.reload();
  await expect(page.getByText("25 tasks")).toBeVisible();
  await page.getByRole("button", { name: "Complete all" }).dblclick();
  await expect(page.getByText("Completed 25 tasks.")).toBeAttached();
  await expect(page.getByRole("button", { name: "Complete all" })).toHaveCount(0);
  await sent(page);
  expect((await apiOf(page, stack).list({ is_completed: true })).length).toBe(25);
  await page.getByRole("radio", { name: "Active" }).check();
  await expect(page.getByText("Nothing left to do.")).toBeVisible();
  await page.getByRole("radio", { name: "All" }).check();
  await page.getByRole("button", { name: "Reopen all" }).click();
  await expect(page.getByText("Reopened 25 tasks.")).toBeAttached();

  await page.evaluate(() => window.scrollTo(0, 0)); // far rows are not in the page
  await page.getByRole("checkbox", { name: "Task 25" }).check();
  await page.getByRole("button", { name: "Clear completed" }).click();
  await expect(page.getByText("Deleted 1 task.")).toBeVisible();
  await expect(page.getByText("24 tasks")).toBeVisible();
  await sent(page);
  expect((await apiOf(page, stack).list()).length).toBe(24);
});
