"use client";

import { useQueryClient } from "@tanstack/react-query";
import { useRef, useState } from "react";

import { hasTyped } from "@/components/typing";
import { announceSession, signOut } from "@/lib/auth-client";
import { db, forget } from "@/lib/database";
import { releaseAll } from "@/lib/outbox";
import { changes } from "@/lib/words";

export function SignOut() {
  const [problem, setProblem] = useState("");
  const [unsent, setUnsent] = useState(0);
  const dialog = useRef<HTMLDialogElement>(null);
  const queries = useQueryClient();

  async function ask() {
    if (hasTyped()) return setProblem("You are still signed in: save or discard what you are typing.");
    if (!navigator.onLine) return setProblem("You can sign out once you are online.");
    setProblem("");
    await releaseAll();
    await queries.refetchQueries();
    const count = await db.outbox.count();
    if (count === 0) return leave();
    setUnsent(count);
    dialog.current?.showModal();
  }

  async function leave() {
    dialog.current?.close();
    const { error } = await signOut().catch(() => ({ error: true }));
    if (error) return setProblem("You could not be signed out.");
    await forget();
    announceSession();
    window.location.assign("/sign-in"); // a whole new page: token and tasks are gone from memory
  }

  return (
    <>
      <span role="alert" className="problem">
        {problem}
      </span>
      <button onClick={ask}>Sign out</button>
      <dialog ref={dialog} aria-labelledby="unsent">
        <div className="stack">
          <h2 id="unsent">Sign out and lose {changes(unsent)}?</h2>
          <p className="muted">They are saved on this device only. The service has not accepted them.</p>
          <div className="buttons">
            <button autoFocus onClick={() => dialog.current?.close()}>
              Stay signed in
            </button>
            <button className="primary" onClick={leave}>
              Sign out
            </button>
          </div>
        </div>
      </dialog>
    </>
  );
}
