/** The front end as an app of the device, and what it leaves there. */

import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

import type { BrowserContext, Page } from "@playwright/test";

import { add, addUnsent, expect, fromSomewhere, sent, signUp, test, titles } from "./stack";

test("the browser offers to install it", async ({ installed }) => {
  const page = await installed.open();
  await page.evaluate(() => navigator.serviceWorker.ready);
  const devtools = await page.context().newCDPSession(page);
  const { errors, data = "" } = await devtools.send("Page.getAppManifest");
  expect(errors).toEqual([]);
  const { installabilityErrors } = await devtools.send("Page.getInstallabilityErrors");
  expect(installabilityErrors).toEqual([]);
  const manifest = JSON.parse(data);
  expect(manifest).toMatchObject({ name: "Tasks", start_url: "/", display: "standalone" });
  for (const { src, sizes } of manifest.icons) {
    const size = await page.evaluate(async (src) => {
      const { width, height } = await createImageBitmap(await (await fetch(src)).blob());
      return `${width}x${height}`;
    }, src);
    expect(size).toBe(sizes);
  }
  expect(manifest.icons.map(({ purpose, sizes }: Record<string, string>) => `${purpose} ${sizes}`)).toEqual([
    "any 192x192",
    "any 512x512",
    "maskable 512x512",
  ]);
  await expect(page.locator("meta[name=viewport]")).toHaveAttribute("content", /width=device-width/);
  await expect(page.locator("meta[name=theme-color]").first()).toHaveAttribute("content", /#/);
  await expect(page.locator("link[rel=apple-touch-icon]")).toHaveCount(1);
});

test("who signs out leaves nothing readable behind", async ({ installed }) => {
  const page = await installed.open();
  await page.evaluate(() => navigator.serviceWorker.ready);
  await add(page, "Secret plan", "of the hidden kind");
  await page.reload();
  await expect(titles(page)).toHaveText(["Secret plan"]);
  expect(await readable(page)).toContain("Secret plan");
  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page).toHaveURL(/sign-in/);
  await page.goBack();
  await expect(page).toHaveURL(/sign-in/);
  const left = await readable(page);
  expect(left).toContain("<h1>Tasks</h1>"); // the page itself, which is the same for everybody
  for (const secret of ["Secret plan", "hidden kind", "Alice"]) expect(left).not.toContain(secret);
  expect(await page.context().cookies()).toEqual([]);
  const folder = await installed.close();
  expect(filesWith("Secret plan", join(folder, "Default", "Cache"))).toEqual([]);
  expect(filesWith("Secret plan", join(folder, "Default", "Service Worker"))).toEqual([]);
});

test("another user who signs in finds nothing of the last one, not even what was not sent", async ({
  newUser,
  stack,
}) => {
  const first = await newUser("Alice");
  await add(first, "Secret plan");
  const page = await afterSession(first, "Secret wish");
  await expect(page.getByText("Your session has ended.")).toBeVisible();
  await expect(page.getByText("1 change waits on this device.")).toBeVisible();
  expect(await readable(page)).not.toContain("Secret plan");
  const bob = await accountOf(page.context(), stack.origin);
  await signIn(page, bob);
  await expect(page.getByText("Nothing to do yet")).toBeVisible();
  expect(await readable(page)).not.toContain("Secret");
});

test("what a session's end cuts off is sent when the same user signs in again", async ({ newBrowser, stack }) => {
  const context = await newBrowser();
  const alice = await accountOf(context, stack.origin);
  const first = await context.newPage();
  await first.goto("/sign-in");
  await signIn(first, alice);
  await add(first, "Buy milk");
  const page = await afterSession(first, "Write the talk");
  await expect(page.getByText("1 change waits on this device.")).toBeVisible();
  await signIn(page, alice);
  await sent(page);
  await expect(titles(page)).toHaveText(["Write the talk", "Buy milk"]);
  await expect(page.getByText("1 change")).toHaveCount(0);
});

test("somebody who takes over the session of a browser sees nothing of the last user", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await add(page, "Hers");
  await signUp(page.context(), stack, "Bob");
  await page.reload();
  await expect(page.getByText("Nothing to do yet")).toBeVisible();
  await expect(page.getByText("Bob")).toBeVisible();
  expect(await readable(page)).not.toContain("Hers");
});

test("who signs out although a change was not sent is asked first", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  await page.route(`${stack.apiUrl}/**`, (route) => route.abort());
  await addUnsent(page, "Buy milk");
  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page.getByRole("dialog")).toContainText("Sign out and lose 1 change?");
  await expect(page.getByRole("button", { name: "Stay signed in" })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(titles(page)).toHaveText(["Buy milk"]);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Sign out" }).click();
  await expect(page).toHaveURL(/sign-in/);
  expect(await readable(page)).not.toContain("Buy milk");
});

/** Add a task without a network, and open the page again when the session is over. */
async function afterSession(page: Page, title: string): Promise<Page> {
  const context = page.context();
  await context.setOffline(true);
  await addUnsent(page, title);
  await page.close(); // with the token in its memory
  await context.clearCookies();
  await context.setOffline(false);
  const next = await context.newPage();
  await next.goto("/");
  return next;
}

/** All that a page of this origin can read. */
function readable(page: Page): Promise<string> {
  return page.evaluate(async () => {
    const result = <T>(request: IDBRequest<T>) =>
      new Promise<T>((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
    const found: string[] = [JSON.stringify({ ...localStorage }), JSON.stringify({ ...sessionStorage })];
    for (const { name = "" } of await indexedDB.databases()) {
      const database = await result(indexedDB.open(name));
      for (const store of database.objectStoreNames) {
        found.push(JSON.stringify(await result(database.transaction(store).objectStore(store).getAll())));
      }
      database.close();
    }
    for (const name of await caches.keys()) {
      const cache = await caches.open(name);
      for (const request of await cache.keys()) found.push((await (await cache.match(request))?.text()) ?? "");
    }
    return found.join("\n");
  });
}

function filesWith(text: string, folder: string): string[] {
  const files = readdirSync(folder, { recursive: true, encoding: "utf-8" }).map((name) => join(folder, name));
  return files.filter((file) => statSync(file).isFile() && readFileSync(file).includes(text));
}

interface Login {
  email: string;
  password: string;
}

/** Sign somebody up, and out again. */
async function accountOf(context: BrowserContext, origin: string): Promise<Login> {
  const login = { email: `${crypto.randomUUID()}@example.com`, password: "correct-horse" };
  const headers = { Origin: origin, ...fromSomewhere() };
  const signedUp = await context.request.post("/api/auth/sign-up/email", { data: { name: "Bob", ...login }, headers });
  await expect(signedUp).toBeOK();
  await context.clearCookies();
  return login;
}

async function signIn(page: Page, { email, password }: Login) {
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("heading", { name: "Tasks" })).toBeVisible();
}
