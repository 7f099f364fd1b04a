import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createConnection } from "node:net";

import { expect, test } from "@playwright/test";

import { freePort } from "./stack";

test("make start starts it all, and Ctrl+C ends it", async ({ page }) => {
  test.setTimeout(180_000); // Next.js compiles each page when it is first asked for
  const ports = [await freePort(), await freePort()] as const;
  const { PATH, HOME, VENV } = process.env;
  const start = spawn("make", ["start", `PORT=${ports[0]}`, `API_PORT=${ports[1]}`], {
    cwd: `${import.meta.dirname}/..`,
    env: { PATH, HOME, ...(VENV && { VENV }) } as unknown as NodeJS.ProcessEnv,
    detached: true, // a process group of its own, as in a terminal
  });
  let said = "";
  for (const stream of [start.stdout, start.stderr]) stream.on("data", (text) => (said += text));
  try {
    await expect.poll(() => start.exitCode ?? said, { timeout: 120_000 }).toContain("Sign up at");
    await page.goto(`http://localhost:${ports[0]}`);
    await expect(page.getByRole("heading", { name: "Sign in" })).toBeVisible({ timeout: 30_000 });
    const isReady = async () => (await fetch(`http://localhost:${ports[1]}/health/ready`)).status;
    await expect.poll(isReady, { message: said, timeout: 20_000 }).toBe(200); // the API has the keys of Better Auth

    signal(start, "SIGINT");
    if (start.exitCode === null) await once(start, "exit");
    // A helper of Next.js that got the signal, too, may end a moment after make.
    await expect.poll(() => isRunning(start), { message: said, timeout: 5_000 }).toBe(false);
    for (const port of ports) await expect(once(createConnection(port, "localhost"), "connect")).rejects.toThrow();
  } finally {
    if (isRunning(start)) signal(start, "SIGKILL");
  }
});

function signal({ pid }: ChildProcess, name: NodeJS.Signals | 0) {
  process.kill(-(pid as number), name);
}

/** Whether any process of its group is left. */
function isRunning(program: ChildProcess) {
  try {
    signal(program, 0);
    return true;
  } catch {
    return false;
  }
}
