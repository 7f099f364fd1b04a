/** For each worker a stack of its own (the API on SQLite, the front end with Better Auth), and users of it. */

import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import {
  test as base,
  type BrowserContext,
  type BrowserContextOptions,
  chromium,
  expect,
  type Page,
} from "@playwright/test";

import { keepToken, type Task, TaskClient } from "@todo-api/client";

import { startApi, startFrontEnd, stop, stopAll } from "../services.mjs";

export interface Stack {
  origin: string;
  apiUrl: string;
  authDatabase: string;
  stopApi: () => Promise<void>;
  startApi: () => Promise<void>;
}

/** A browser whose data outlives it, with its service worker. */
interface Installed {
  open: () => Promise<Page>;
  restart: (options: { offline: boolean }) => Promise<Page>;
  /** Close it, and return the folder with its data. */
  close: () => Promise<string>;
}

interface Users {
  installed: Installed;
  newBrowser: (options?: BrowserContextOptions) => Promise<BrowserContext>;
  newUser: (name: string, options?: BrowserContextOptions) => Promise<Page>;
  secondDevice: (page: Page) => Promise<Page>;
}

export const test = base.extend<Users, { stack: Stack }>({
  stack: [
    async ({}, use) => {
      const folder = mkdtempSync(join(tmpdir(), "example-"));
      const log = openSync(join(folder, "log"), "a");
      const stdio = ["ignore", log, log];
      const [port, apiPort] = [await freePort(), await freePort()];
      const origin = `http://localhost:${port}`;
      const apiUrl = `http://localhost:${apiPort}`;
      const start = () => startApi({ port: apiPort, origin, database: join(folder, "tasks.db"), stdio });
      // So that tokens expire while tests run: the API's leeway is 10 s.
      const settings = { JWT_LIFETIME: "2s", ASSISTANT_TOKEN_SECONDS: "2" };
      const secret = "a-secret-of-the-end-to-end-tests-0123456789";
      try {
        let api = await start();
        const authDatabase = join(folder, "auth.db");
        const front = { origin, apiUrl, database: authDatabase, secret, settings, stdio };
        await startFrontEnd({ command: "start", ...front });
        await use({
          origin,
          apiUrl,
          authDatabase,
          stopApi: () => stop(api),
          startApi: async () => void (api = await start()),
        });
      } catch (error) {
        console.error(readFileSync(join(folder, "log"), "utf-8"));
        throw error;
      } finally {
        await stopAll();
        rmSync(folder, { recursive: true });
      }
    },
    { scope: "worker", timeout: 120_000 },
  ],

  /** Open a browser, in whose pages nothing may go wrong unnoticed. */
  newBrowser: async ({ browser, stack }, use) => {
    const contexts: BrowserContext[] = [];
    const errors: Error[] = [];
    await use(async (options) => {
      const context = await browser.newContext({ baseURL: stack.origin, ...options });
      context.on("weberror", (error) => errors.push(error.error()));
      await context.route(`${stack.origin}/api/auth/**`, (route) =>
        route.continue({ headers: { ...route.request().headers(), ...fromSomewhere() } }),
      );
      contexts.push(context);
      return context;
    });
    await Promise.all(contexts.map((context) => context.close()));
    expect(errors).toEqual([]);
  },

  /** Sign somebody up who is nobody else, and open their list. */
  newUser: async ({ newBrowser, stack }, use) => {
    await use(async (name, options) => {
      const context = await newBrowser(options);
      await signUp(context, stack, name);
      return listIn(context);
    });
  },

  installed: async ({ stack, launchOptions }, use) => {
    const folder = mkdtempSync(join(tmpdir(), "profile-"));
    let context: BrowserContext | undefined;
    const start = async (offline = false) =>
      (context = await chromium.launchPersistentContext(folder, { ...launchOptions, baseURL: stack.origin, offline }));
    const close = async () => {
      await context?.close();
      context = undefined;
      return folder;
    };
    await use({
      close,
      open: async () => {
        const context = await start();
        await signUp(context, stack, "Alice");
        return listIn(context);
      },
      restart: async ({ offline }) => {
        await close();
        return listIn(await start(offline));
      },
    });
    await close();
    rmSync(folder, { recursive: true });
  },

  /** Open the list of the same user in another browser. */
  secondDevice: async ({ newBrowser }, use) => {
    await use(async (page) => listIn(await newBrowser({ storageState: await page.context().storageState() })));
  },
});

export { expect };

async function listIn(context: BrowserContext) {
  const page = await context.newPage();
  await page.goto("/");
  return page;
}

/** Better Auth limits the requests of one address, such as to three sign-ups in 10 s. Here everybody has their own. */
export function fromSomewhere() {
  const [a, b, c] = crypto.getRandomValues(new Uint8Array(3));
  return { "X-Forwarded-For": `10.${a}.${b}.${c}` };
}

export async function signUp(context: BrowserContext, stack: Stack, name: string) {
  const signedUp = await context.request.post("/api/auth/sign-up/email", {
    data: { name, email: `${crypto.randomUUID()}@example.com`, password: "correct-horse" },
    headers: { Origin: stack.origin, ...fromSomewhere() },
  });
  await expect(signedUp).toBeOK();
}

/** Type a new task and add it. */
export async function addUnsent(page: Page, title: string, details?: string) {
  await page.getByLabel("What is to be done?").fill(title);
  if (details) await page.getByRole("form", { name: "New task" }).getByLabel("Details").fill(details);
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await expect(titles(page).filter({ hasText: title.trim() })).not.toHaveCount(0);
}

export async function add(page: Page, title: string, details?: string) {
  await addUnsent(page, title, details);
  await sent(page);
}

/** Wait until the API has accepted every change: a deletion only after the time to undo it. */
export async function sent(page: Page) {
  await expect.poll(() => page.evaluate(countUnsent), { timeout: 20_000 }).toBe(0);
}

function countUnsent(): Promise<number> {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open("tasks");
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const counting = opening.result.transaction("outbox").objectStore("outbox").count();
      counting.onsuccess = () => resolve(counting.result);
      opening.result.close();
    };
  });
}

/** A client of the API for the user of a page: it writes as another device does. */
export function apiOf(page: Page, stack: Stack) {
  const headers = fromSomewhere();
  const getToken = keepToken(async () => (await (await page.request.get("/api/auth/token", { headers })).json()).token);
  return new TaskClient({ baseUrl: stack.apiUrl, getToken });
}

/** The only task of the user with this title. */
export async function taskOf(page: Page, stack: Stack, title: string): Promise<Task> {
  const found = (await apiOf(page, stack).list()).filter((task) => task.title === title);
  expect(found).toHaveLength(1);
  return found[0] as Task;
}

export const row = (page: Page, title: string) =>
  page.getByRole("list", { name: "Tasks" }).locator("> li").filter({ hasText: title });

export const titles = (page: Page) => page.getByRole("list", { name: "Tasks" }).locator(".title");

/** An answer that a test holds back until it gives it, whether it has been asked for by then or not. */
export function gate() {
  let give: () => void = () => undefined;
  const held = new Promise<void>((resolve) => (give = resolve));
  return { held, give };
}

/** Make tasks, without the front end: "Task 1" to "Task n". */
export async function seed(page: Page, stack: Stack, count: number) {
  const api = apiOf(page, stack);
  for (let number = 1; number <= count; number++) await api.create({ title: `Task ${number}` });
}

/** Open the page anew so that what it waits for takes a fifth of the time. */
export async function impatient(page: Page) {
  await page.addInitScript(() => {
    const timeout = AbortSignal.timeout.bind(AbortSignal);
    AbortSignal.timeout = (ms) => timeout(ms / 5);
  });
  await page.reload();
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "localhost", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
