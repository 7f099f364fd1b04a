import { add, expect, test, titles } from "./stack";

test("somebody signs up, adds a task, signs out and in again", async ({ page, stack }) => {
  await page.goto(stack.origin);
  await page.getByRole("link", { name: "Sign up" }).click();
  await page.getByLabel("Name").fill("Alice");
  await page.getByLabel("E-mail").fill("alice@example.com");
  await page.getByLabel("Password").fill("correct-horse");
  await page.getByRole("button", { name: "Sign up" }).click();
  await expect(page.getByText("Nothing to do yet")).toBeVisible();
  await add(page, "Buy milk", "2 l");
  await expect(titles(page)).toHaveText(["Buy milk"]);
});
