/** What is overdue, due today and upcoming, by the clock and the time zone of the user. */

import type { Page } from "@playwright/test";

import { apiOf, expect, row, type Stack, test, titles } from "./stack";

/** The same moment everywhere: in Honolulu it is the 14th, in Kolkata the 15th. */
const MOMENT = "2026-02-14T22:30:00Z";

for (const [timezoneId, today] of [
  ["Pacific/Honolulu", "2026-02-14"],
  ["Asia/Kolkata", "2026-02-15"],
] as const) {
  test(`today is the user's own in ${timezoneId}`, async ({ newUser, stack }) => {
    const page = await newUser("Alice", { timezoneId });
    await fill(page, stack, ["2026-02-13", "2026-02-14", "2026-02-15", "2026-02-16"]);
    await at(page, MOMENT);
    await expectDue(page, "today", [today]);
    await expectDue(
      page,
      "overdue",
      ["2026-02-13", "2026-02-14"].filter((day) => day < today),
    );
    await expectDue(
      page,
      "upcoming",
      ["2026-02-15", "2026-02-16"].filter((day) => day > today),
    );
    await expect(row(page, "2026-02-13").getByText(/Overdue/)).toBeVisible(); // not told by colour alone
    await page.getByRole("checkbox", { name: "2026-02-13" }).check();
    await expect(row(page, "2026-02-13").getByText(/Overdue/)).toHaveCount(0);
  });
}

test("a day ends at midnight while the page is open", async ({ newUser, stack }) => {
  const page = await newUser("Alice", { timezoneId: "Asia/Kolkata" });
  await fill(page, stack, ["2026-02-14"]);
  await at(page, "2026-02-14T18:29:30Z"); // half a minute before midnight
  await expect(row(page, "2026-02-14").getByText("Today")).toBeVisible();
  await page.clock.fastForward("00:40");
  await expect(row(page, "2026-02-14").getByText("Overdue: Yesterday")).toBeVisible();
  await expectDue(page, "overdue", ["2026-02-14"]);
});

for (const [timezoneId, what, beforeMidnight, days] of [
  // Clocks go forward at 2:00 on the 8th, which has 23 hours.
  ["America/New_York", "forward", "2026-03-09T03:59:30Z", ["2026-03-08", "2026-03-09"]],
  // Clocks go back at 2:00 on the 1st, which has 25 hours.
  ["America/New_York", "back", "2026-11-02T04:59:30Z", ["2026-11-01", "2026-11-02"]],
  // The 24th begins at 1:00: its midnight does not exist.
  ["Africa/Cairo", "forward at midnight", "2026-04-23T21:59:30Z", ["2026-04-23", "2026-04-24"]],
] as const) {
  test(`a day ends when it does although clocks go ${what} in ${timezoneId}`, async ({ newUser, stack }) => {
    const page = await newUser("Alice", { timezoneId });
    await fill(page, stack, [...days]);
    await at(page, beforeMidnight);
    await expect(row(page, days[0]).getByText("Today")).toBeVisible();
    await expect(row(page, days[1]).getByText("Tomorrow")).toBeVisible();
    await page.clock.fastForward("00:40");
    await expect(row(page, days[0]).getByText("Overdue: Yesterday")).toBeVisible();
    await expect(row(page, days[1]).getByText("Today")).toBeVisible();
  });
}

test("days are told in words that are easy to read", async ({ newUser, stack }) => {
  const page = await newUser("Alice", { timezoneId: "Europe/Berlin" });
  const words = {
    "2026-03-26": "Overdue: 2 days ago",
    "2026-03-29": "Tomorrow", // when clocks change
    "2026-03-31": "Tuesday",
    "2026-04-12": "12 April",
    "2027-01-01": "1 January 2027",
    "2024-02-29": "Overdue: 29 February 2024",
  };
  await fill(page, stack, Object.keys(words));
  await at(page, "2026-03-28T12:00:00Z");
  for (const [day, text] of Object.entries(words)) await expect(row(page, day).getByText(text)).toBeVisible();
});

/** Make a task for each day, with the day as its title. */
async function fill(page: Page, stack: Stack, days: string[]) {
  for (const day of days) await apiOf(page, stack).create({ title: day, due_date: day });
}

async function at(page: Page, time: string) {
  await page.clock.install({ time });
  await page.reload();
}

async function expectDue(page: Page, name: string, days: string[]) {
  const button = page.getByRole("group", { name: "Agenda" }).getByRole("button", { name });
  await expect(button).toHaveText(new RegExp(`^${days.length}`));
  await button.click();
  await expect(button).toHaveAttribute("aria-pressed", "true");
  await expect(titles(page)).toHaveText([...days].reverse());
  await button.click();
}
