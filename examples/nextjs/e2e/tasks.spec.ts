import { add, expect, gate, row, seed, test, titles } from "./stack";

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

test("hasty changes of one task all arrive, in their order", async ({ newUser }) => {
  const page = await newUser("Alice");
  await add(page, "Buy milk");
  const checkbox = page.getByRole("checkbox", { name: "Buy milk" });
  for (let clicks = 0; clicks < 5; clicks++) await checkbox.click();
  await row(page, "milk").getByRole("button", { name: "Edit" }).click();
  await page.getByLabel("Title").fill("Buy oats");
  await page.getByRole("button", { name: "Save" }).click();
  await expect(page.getByText("Saved “Buy oats”.")).toBeAttached();
  await page.reload();
  await expect(page.getByRole("checkbox", { name: "Buy oats" })).toBeChecked();
});

test("a new title leaves the details as they were", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  const { token } = await (await page.request.get("/api/auth/token")).json();
  const headers = { Authorization: `Bearer ${token}` };
  const data = { title: "Buy milk", description: "  2 l\n" };
  await expect(await page.request.post(`${stack.apiUrl}/api/tasks`, { data, headers })).toBeOK();
  await page.reload();
  await page.getByRole("button", { name: "Edit Buy milk" }).click();
  await page.getByLabel("Title").fill("Buy oats");
  await page.getByRole("button", { name: "Save" }).click();
  await expect(page.getByText("Saved “Buy oats”.")).toBeAttached();
  const [task] = await (await page.request.get(`${stack.apiUrl}/api/tasks`, { headers })).json();
  expect(task).toMatchObject({ title: "Buy oats", description: data.description });
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

  await page.route("**/api/tasks/*", (route) => route.abort());
  for (const title of ["Task 3", "Task 2"]) await page.getByRole("button", { name: `Delete ${title}` }).click();
  await expect(page.getByRole("button", { name: "Dismiss" })).toHaveCount(2);
  await page.getByRole("button", { name: "Dismiss" }).first().dblclick();
  await expect(page.getByText("Could not delete “Task 3”.")).toHaveCount(0);
  await expect(page.getByText("Could not delete “Task 2”.")).toBeVisible();
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

test("more are loaded until all are there, each once", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await seed(page, stack, 45);
  await page.reload();
  await expect(titles(page)).toHaveCount(20);
  await expect(page.getByText("20 of 45 tasks")).toBeVisible();
  await page.getByRole("button", { name: "Load more" }).click();
  await expect(titles(page)).toHaveCount(40);
  await add(page, "One more, meanwhile");
  await expect(page.getByText("40 of 46 tasks")).toBeVisible();
  await page.getByRole("button", { name: "Load more" }).click();
  await expect(titles(page)).toHaveCount(46);
  await expect(page.getByText("46 tasks")).toBeVisible();
  await expect(page.getByRole("button", { name: "Load more" })).toHaveCount(0);
  await expect(page.getByRole("checkbox", { name: "Task 6", exact: true })).toBeFocused();
  expect(new Set(await titles(page).allTextContents()).size).toBe(46);
});

test("more are loaded although something is changed meanwhile", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await seed(page, stack, 25);
  await page.reload();
  await page.route(/cursor=/, async (route) => {
    await page.waitForTimeout(500);
    await route.fallback();
  });
  const asked = page.waitForRequest(/cursor=/);
  await page.getByRole("button", { name: "Load more" }).click();
  await asked;
  await page.getByRole("checkbox", { name: "Task 25" }).click();
  await expect(titles(page)).toHaveCount(25);
  await expect(page.getByRole("checkbox", { name: "Task 25" })).toBeChecked();
});

test("all are completed and reopened, and the completed cleared, shown or not", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await seed(page, stack, 25);
  await page.reload();
  await page.getByRole("button", { name: "Complete all" }).dblclick();
  await expect(page.getByText("Completed 25 tasks.")).toBeAttached();
  await page.waitForTimeout(500); // what the second click would have done is over
  await expect(page.getByText("Completed 25 tasks.")).toBeAttached();
  await page.reload();
  await expect(page.getByRole("checkbox", { checked: true })).toHaveCount(20);
  await page.getByRole("radio", { name: "Active" }).check();
  await expect(page.getByText("Nothing left to do.")).toBeVisible();
  await page.getByRole("radio", { name: "All" }).check();
  await page.getByRole("button", { name: "Reopen all" }).click();
  await expect(page.getByText("Reopened 25 tasks.")).toBeAttached();

  await page.getByRole("checkbox", { name: "Task 25" }).check();
  await page.getByRole("button", { name: "Clear completed" }).click();
  await expect(page.getByRole("button", { name: "Cancel" })).toBeFocused();
  await page.getByRole("button", { name: "Cancel" }).click();
  await expect(page.getByText("20 of 25 tasks")).toBeVisible();
  await page.getByRole("button", { name: "Clear completed" }).click();
  await page.getByRole("button", { name: "Delete them" }).click();
  await expect(page.getByText("Deleted 1 task.")).toBeAttached();
  await page.reload();
  await expect(page.getByText("20 of 24 tasks")).toBeVisible();
});

test("a list is not called empty while there is more of it", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await seed(page, stack, 21);
  await page.reload();
  await page.getByRole("button", { name: "Load more" }).click();
  await page.getByRole("button", { name: "Complete all" }).click();
  await page.getByRole("checkbox", { name: "Task 1", exact: true }).click();
  await expect(page.getByText("Reopened “Task 1”.")).toBeAttached();
  await page.reload();
  await expect(titles(page)).toHaveCount(20);

  const answer = gate();
  await page.route("**/api/tasks*", async (route) => {
    if (route.request().method() === "DELETE") await answer.held;
    await route.fallback();
  });
  const asked = page.waitForRequest((request) => request.method() === "DELETE");
  await page.getByRole("button", { name: "Clear completed" }).click();
  await page.getByRole("button", { name: "Delete them" }).click();
  await asked;
  await expect(page.getByText("Loading your tasks")).toBeAttached();
  await expect(page.getByText("Nothing to do yet")).toHaveCount(0);
  await expect(page.getByRole("region", { name: "Your tasks" })).toBeFocused();
  answer.give();
  await expect(titles(page)).toHaveText(["Task 1"]);
});
