"use client";

import { type FormEvent, useState } from "react";

import { useHydrated } from "@/components/use-hydrated";
import { useSession } from "@/components/use-session";
import { decideConsent } from "@/lib/auth-client";
import { SignedOut, type User } from "@/lib/database";

interface Props {
  name: string;
  user: User;
  scopes: string[];
  /** Where the browser goes afterwards. */
  returnsTo: string;
}

/** Asks what an assistant may do. */
export function Consent({ name, user, scopes, returnsTo }: Props) {
  const asksToWrite = scopes.includes("tasks:write");
  const [mayWrite, setMayWrite] = useState(asksToWrite);
  const [problem, setProblem] = useState("");
  const isReady = useHydrated();
  useSession();

  async function answer(accept: boolean) {
    const granted = mayWrite ? scopes : [...scopes.filter((scope) => scope !== "tasks:write"), "tasks:read"];
    const asked = granted.filter((scope) => scopes.includes(scope));
    setProblem("");
    try {
      window.location.assign(await decideConsent(user.id, accept, [...new Set(asked)]));
    } catch (error) {
      if (error instanceof SignedOut) return window.location.reload();
      setProblem((error as Error).message);
    }
  }

  function submit(event: FormEvent) {
    event.preventDefault();
    void answer(true);
  }

  return (
    <main className="narrow">
      <h1>Let “{name}” work with your tasks?</h1>
      <p className="muted">You are signed in as {user.name}.</p>
      <form className="card" onSubmit={submit}>
        <fieldset role="presentation" className="stack" disabled={!isReady}>
          <div className="stack tight">
            <h2>It will be able to</h2>
            <ul className="abilities">
              <li>see all your tasks, with details, dates and tags</li>
              {mayWrite && <li>add, change, complete and delete tasks</li>}
            </ul>
          </div>
          {asksToWrite && scopes.includes("tasks:read") && (
            <label className="check">
              <input type="checkbox" checked={mayWrite} onChange={() => setMayWrite(!mayWrite)} />
              <span>Let it change my tasks</span>
            </label>
          )}
          <p className="muted">
            It cannot see your password or anything else. You can disconnect it at any time under “Assistants”.
          </p>
          <p className="muted">
            It calls itself “{name}”; nobody has checked that. Your answer is sent to <strong>{returnsTo}</strong>.
            Allow it only if you have just connected it yourself.
          </p>
          <p role="alert" className="problem">
            {problem}
          </p>
          <div className="buttons">
            <button className="primary">Allow</button>
            <button type="button" onClick={() => answer(false)}>
              Do not allow
            </button>
          </div>
        </fieldset>
      </form>
    </main>
  );
}
