"use client";

import { useLiveQuery } from "dexie-react-hooks";
import Link from "next/link";
import { type FormEvent, useState } from "react";

import { useHydrated } from "@/components/use-hydrated";
import { announceSession, currentUser, signIn, signUp, UNREACHABLE } from "@/lib/auth-client";
import { adopt, db, type User } from "@/lib/database";
import { changes } from "@/lib/words";

/** Signs in, or with `isNew` up; `hasEnded` says why the user is here. */
export function Credentials({ isNew = false, hasEnded = false }: { isNew?: boolean; hasEnded?: boolean }) {
  const [problem, setProblem] = useState("");
  const [isBusy, setBusy] = useState(false);
  const isReady = useHydrated();
  const unsent = useLiveQuery(() => db.outbox.count()) ?? 0;

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    if (isBusy) return;
    const said = new FormData(event.currentTarget);
    const [name, email, password] = ["name", "email", "password"].map((field) => String(said.get(field) ?? "")) as [
      string,
      string,
      string,
    ];
    setBusy(true);
    setProblem("");
    const answer = isNew ? signUp.email({ name, email, password }) : signIn.email({ email, password });
    const unreachable = { data: null, error: { message: UNREACHABLE } };
    const { data, error } = await answer.catch(() => unreachable);
    if (error || !data) {
      setProblem(error?.message ?? "That did not work. Try again.");
      return setBusy(false);
    }
    const user = await whoIs(data).catch(() => undefined);
    if (!user) {
      setProblem(UNREACHABLE);
      return setBusy(false);
    }
    await adopt(user);
    announceSession();
    // A whole new page, so that nothing of another user is left in memory.
    window.location.assign("url" in data && data.url ? String(data.url) : "/"); // to the consent, if an assistant asks for it
  }

  return (
    <main className="narrow">
      <h1>{isNew ? "Create your account" : "Sign in"}</h1>
      {hasEnded && <p className="banner">Your session has ended. Sign in to go on.</p>}
      {unsent > 0 && (
        <p className="banner">
          {changes(unsent)} {unsent === 1 ? "waits" : "wait"} on this device. Sign in with the same account to send{" "}
          {unsent === 1 ? "it" : "them"}. Another account deletes {unsent === 1 ? "it" : "them"}.
        </p>
      )}
      <form className="card" onSubmit={submit}>
        <fieldset role="presentation" className="stack" disabled={!isReady}>
          {isNew && <Field label="Name" name="name" autoComplete="name" />}
          <Field label="E-mail" name="email" type="email" autoComplete="email" />
          <Field
            label="Password"
            name="password"
            type="password"
            autoComplete={isNew ? "new-password" : "current-password"}
            {...(isNew && { minLength: 8, hint: "At least 8 characters" })}
          />
          <p role="alert" className="problem">
            {problem}
          </p>
          {/* Not disabled while it is busy: it would lose the focus. */}
          <button className="primary" aria-disabled={isBusy}>
            {isNew ? "Sign up" : "Sign in"}
          </button>
        </fieldset>
      </form>
      <p className="muted">
        {isNew ? "You have an account? " : "No account yet? "}
        <Link href={(isNew ? "/sign-in" : "/sign-up") + (isReady ? window.location.search : "")}>
          {isNew ? "Sign in" : "Sign up"}
        </Link>
      </p>
    </main>
  );
}

/** Who has signed in. The answer does not say so if an assistant asks for access. */
async function whoIs(answer: { user?: User }): Promise<User | undefined> {
  const { user } = answer;
  return user ? { id: user.id, name: user.name } : currentUser();
}

interface FieldProps {
  label: string;
  name: string;
  autoComplete: string;
  type?: string;
  minLength?: number;
  hint?: string;
}

function Field({ label, hint, ...input }: FieldProps) {
  return (
    <label className="field">
      <span>
        {label} {hint && <small className="muted">{hint}</small>}
      </span>
      <input required {...input} />
    </label>
  );
}
