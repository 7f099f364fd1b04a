/** An assistant is connected through the consent in the browser, works, and is disconnected. */

import { createServer } from "node:http";
import { once } from "node:events";

import AxeBuilder from "@axe-core/playwright";
import {
  Client,
  type OAuthClientProvider,
  StreamableHTTPClientTransport,
  UnauthorizedError,
} from "@modelcontextprotocol/client";
import type { Page } from "@playwright/test";
import Database from "libsql";

import { expect, fromSomewhere, signUp, type Stack, test, titles } from "./stack";

/** What an assistant keeps: its registration, and its tokens. */
class Assistant implements OAuthClientProvider {
  asked: URL | undefined;
  #kept: Record<string, unknown> = {};

  constructor(
    readonly name: string,
    readonly redirectUrl: string,
  ) {}

  get clientMetadata() {
    return { client_name: this.name, redirect_uris: [this.redirectUrl], token_endpoint_auth_method: "none" };
  }
  clientInformation = () => this.#kept["client"] as never;
  saveClientInformation = (client: unknown) => void (this.#kept["client"] = client);
  tokens = () => this.#kept["tokens"] as never;
  saveTokens = (tokens: unknown) => void (this.#kept["tokens"] = tokens);
  codeVerifier = () => this.#kept["verifier"] as string;
  saveCodeVerifier = (verifier: string) => void (this.#kept["verifier"] = verifier);
  discoveryState = () => this.#kept["discovery"] as never;
  saveDiscoveryState = (state: unknown) => void (this.#kept["discovery"] = state);
  redirectToAuthorization = (url: URL) => void (this.asked = url);

  /** Returns a client, or undefined when the user is to be asked first. */
  async connect(stack: Stack, answer?: URLSearchParams): Promise<Client | undefined> {
    this.asked = undefined;
    const options = { authProvider: this, fetch: fetchFromSomewhere };
    const transport = new StreamableHTTPClientTransport(new URL(`${stack.apiUrl}/mcp`), options);
    if (answer) await transport.finishAuth(answer);
    const client = new Client({ name: this.name, version: "1.0.0" });
    try {
      await client.connect(transport);
      return client;
    } catch (error) {
      if (error instanceof UnauthorizedError) return undefined;
      throw error;
    }
  }
}

const fetchFromSomewhere = (url: string | URL, init?: RequestInit) =>
  fetch(url, { ...init, headers: { ...Object.fromEntries(new Headers(init?.headers)), ...fromSomewhere() } });

/** Where the browser goes after the consent, and what it brings. */
async function listener() {
  const answers: URLSearchParams[] = [];
  const server = createServer(({ url = "" }, response) => {
    const { searchParams } = new URL(url, "http://localhost");
    if (searchParams.has("state") || searchParams.has("code") || searchParams.has("error")) answers.push(searchParams);
    response.end("You can close this page.");
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as { port: number };
  return { url: `http://127.0.0.1:${port}/callback`, answers, close: () => server.close() };
}

const consent = (page: Page) => page.getByRole("heading", { name: "Let “Scripted” work with your tasks?" });

async function expectNoViolations(page: Page) {
  expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
}

test("an assistant is let in, adds a task, is disconnected and then refused", async ({ newUser, stack }) => {
  test.setTimeout(90_000);
  const tasks = await newUser("Alice");
  await expect(tasks.getByText("Nothing to do yet")).toBeVisible();
  const page = await tasks.context().newPage();
  await page.goto("/");
  await page.getByRole("link", { name: "Assistants" }).click();
  await expect(page.getByText("No assistant is connected.")).toBeVisible();
  await expect(page.getByLabel("Address")).toHaveValue(`${stack.apiUrl}/mcp`);
  await expectNoViolations(page);

  const callback = await listener();
  const assistant = new Assistant("Scripted", callback.url);
  expect(await assistant.connect(stack)).toBeUndefined();
  const shown = await page.goto(String(assistant.asked));
  expect(shown?.headers()["content-security-policy"]).toBe("frame-ancestors 'none'"); // nobody clicks it unseen
  await expect(consent(page)).toBeVisible();
  await expect(page.getByText("add, change, complete and delete tasks")).toBeVisible();
  await expect(page.getByText("a program on this computer")).toBeVisible();
  await expectNoViolations(page);
  await page.getByRole("button", { name: "Allow", exact: true }).press("Enter");
  await expect(page.getByText("You can close this page.")).toBeVisible();

  const client = (await assistant.connect(stack, callback.answers[0])) as Client;
  const added = await client.callTool({ name: "add_task", arguments: { title: "From the assistant", tags: ["ai"] } });
  expect(added.isError).toBeFalsy();
  await tasks.evaluate(() => window.dispatchEvent(new Event("focus")));
  await expect(titles(tasks)).toHaveText(["From the assistant"]);

  await page.goto("/assistants");
  const connected = page.getByRole("list", { name: "Connected assistants" });
  await expect(connected).toContainText("Scripted");
  await expect(connected).toContainText("May see and change your tasks");
  await expect(connected).toContainText(/last active \d+ \w+ \d{4}/);
  await expectNoViolations(page);
  await page.getByRole("button", { name: "Disconnect Scripted" }).click();
  await expect(page.getByRole("button", { name: "Cancel" })).toBeFocused();
  await page.getByRole("dialog").getByRole("button", { name: "Disconnect" }).click();
  await expect(page.getByText("No assistant is connected.")).toBeVisible();

  await page.waitForTimeout(13_000); // the lifetime of its token, and the API's leeway
  await expect(client.callTool({ name: "list_tasks", arguments: {} })).rejects.toThrow(UnauthorizedError);
  await page.goto(String(assistant.asked)); // it can only ask again
  await expect(consent(page)).toBeVisible();
  callback.close();
});

test("an assistant that may only look cannot change anything", async ({ newUser, stack }) => {
  const page = await newUser("Alice", { timezoneId: "Pacific/Kiritimati" });
  const callback = await listener();
  const assistant = new Assistant("Scripted", callback.url);
  await assistant.connect(stack);
  await page.goto(String(assistant.asked));
  await page.getByRole("checkbox", { name: "Let it change my tasks" }).uncheck();
  await expect(page.getByText("add, change, complete and delete tasks")).toHaveCount(0);
  await page.getByRole("button", { name: "Allow", exact: true }).click();
  await expect(page.getByText("You can close this page.")).toBeVisible();
  const client = (await assistant.connect(stack, callback.answers[0])) as Client;
  expect((await client.callTool({ name: "list_tasks", arguments: {} })).isError).toBeFalsy();
  await expect(client.callTool({ name: "add_task", arguments: { title: "No" } })).rejects.toThrow(UnauthorizedError);
  await page.goto("/assistants");
  await expect(page.getByText("May see your tasks")).toBeVisible();
  const active = page.locator("time").last();
  const there = { timeZone: "Pacific/Kiritimati", hour: "2-digit", minute: "2-digit" } as const;
  const time = new Date(String(await active.getAttribute("datetime"))).toLocaleTimeString("en-GB", there);
  await expect(active).toContainText(time);
  callback.close();
});

test("who is not signed in signs in first; who does not allow it sends the assistant away", async ({
  newBrowser,
  stack,
}) => {
  const page = await (await newBrowser()).newPage();
  const callback = await listener();
  const assistant = new Assistant("Scripted", callback.url);
  await assistant.connect(stack);
  await page.goto(String(assistant.asked));
  await page.getByRole("link", { name: "Sign up" }).click();
  await page.getByLabel("Name").fill("Alice");
  await page.getByLabel("E-mail").fill(`${crypto.randomUUID()}@example.com`);
  await page.getByLabel("Password").fill("correct-horse");
  await page.getByRole("button", { name: "Sign up" }).click();
  await expect(consent(page)).toBeVisible();
  const answers = "**/api/auth/oauth2/consent";
  await page.route(answers, (route) => route.abort());
  await page.getByRole("button", { name: "Do not allow" }).click();
  await expect(page.getByText("The sign-in service cannot be reached. Try again.")).toBeVisible();
  await page.unroute(answers);
  await page.route(answers, (route) => route.fulfill({ status: 500, json: {} }));
  await page.getByRole("button", { name: "Do not allow" }).click();
  await expect(page.getByText("That did not work. Try again.")).toBeVisible();
  await page.unroute(answers);
  await page.route(answers, (route) => route.fulfill({ status: 400, json: { error: "invalid_request" } }));
  await page.getByRole("button", { name: "Do not allow" }).click();
  await expect(page.getByText("This request is too old.")).toBeVisible();
  await page.unroute(answers);
  await page.getByRole("button", { name: "Do not allow" }).click();
  await expect(page.getByText("You can close this page.")).toBeVisible();
  expect(callback.answers.at(-1)?.get("error")).toBe("access_denied");
  await page.goto("/assistants");
  await expect(page.getByText("No assistant is connected.")).toBeVisible();
  callback.close();
});

test("the name that an assistant gives itself cannot pass for words of the page", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  const callback = await listener();
  const assistant = new Assistant(`Good” was checked.\u202e\n“${"y".repeat(100)}`, callback.url);
  await assistant.connect(stack);
  await page.goto(String(assistant.asked));
  const name = `Good was checked. ${"y".repeat(60 - "Good was checked. ".length)}`;
  await expect(page.getByRole("heading", { level: 1 })).toHaveText(`Let “${name}” work with your tasks?`);
  callback.close();
});

test("an assistant that is disconnected before it has its first token gets none", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  const callback = await listener();
  const assistant = new Assistant("Scripted", callback.url);
  await assistant.connect(stack);
  await page.goto(String(assistant.asked));
  await page.getByRole("button", { name: "Allow", exact: true }).click();
  await expect(page.getByText("You can close this page.")).toBeVisible();
  await page.goto("/assistants", { waitUntil: "networkidle" });
  await page.getByRole("button", { name: "Disconnect Scripted" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Disconnect" }).click();
  await expect(page.getByText("No assistant is connected.")).toBeVisible();
  const { client_id } = assistant.clientInformation() as { client_id: string };
  const answer = await fetch(`${stack.origin}/api/auth/oauth2/token`, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "authorization_code",
      code: String(callback.answers[0]?.get("code")),
      code_verifier: assistant.codeVerifier(),
      redirect_uri: callback.url,
      resource: `${stack.apiUrl}/mcp`,
      client_id,
    }),
    headers: fromSomewhere(),
  });
  expect(answer.status).toBe(400);
  expect(await answer.json()).toEqual({ error: "invalid_grant", error_description: "It was disconnected." });
  const database = new Database(stack.authDatabase, { timeout: 5_000 });
  const kept = database.prepare("SELECT * FROM oauthRefreshToken WHERE clientId = ?").all(client_id);
  database.close();
  expect(kept).toEqual([]);
  callback.close();
});

test("nobody answers or disconnects an assistant on a page of somebody else", async ({ newUser, stack }) => {
  const page = await newUser("Alice");
  const callback = await listener();
  const assistant = new Assistant("Scripted", callback.url);
  await assistant.connect(stack);
  await page.goto(String(assistant.asked));
  await expect(page.getByText("You are signed in as Alice.")).toBeVisible();
  await signUp(page.context(), stack, "Bob");
  await page.getByRole("button", { name: "Allow", exact: true }).click();
  await expect(page.getByText("You are signed in as Bob.")).toBeVisible();
  expect(callback.answers).toEqual([]);

  await page.getByRole("button", { name: "Allow", exact: true }).click();
  await expect(page.getByText("You can close this page.")).toBeVisible();
  await page.goto("/assistants");
  await signUp(page.context(), stack, "Carol");
  await page.getByRole("button", { name: "Disconnect Scripted" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Disconnect" }).click();
  await expect(page.getByText("No assistant is connected.")).toBeVisible(); // hers
  await expect(page.getByText("Disconnected “Scripted”.")).toHaveCount(0);
  const database = new Database(stack.authDatabase, { timeout: 5_000 });
  const { client_id } = assistant.clientInformation() as { client_id: string };
  const kept = database.prepare("SELECT * FROM oauthConsent WHERE clientId = ?").all(client_id);
  database.close();
  expect(kept).toHaveLength(1);
  callback.close();
});

for (const place of ["/assistants", "the consent"]) {
  test(`a sign-out in another tab is seen on ${place}, too`, async ({ newUser, stack }) => {
    const tasks = await newUser("Alice");
    const assistant = new Assistant("Scripted", "http://localhost/callback");
    await assistant.connect(stack);
    const page = await tasks.context().newPage();
    // Until it has asked for the session, it does not listen to other tabs.
    await page.goto(place === "/assistants" ? place : String(assistant.asked), { waitUntil: "networkidle" });
    await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
    await expect(tasks.getByText("Nothing to do yet")).toBeVisible();
    await tasks.getByRole("button", { name: "Sign out" }).click();
    await expect(page.getByRole("heading", { name: "Sign in" })).toBeVisible();
    expect(new URL(page.url()).searchParams.has("sig")).toBe(place !== "/assistants"); // to come back to the consent
  });
}
