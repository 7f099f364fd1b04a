"use client";

import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { hasUnsent } from "@/components/providers";
import { announceSession, signOut } from "@/lib/auth-client";

export function SignOut({ name }: { name: string }) {
  const [problem, setProblem] = useState("");
  const queries = useQueryClient();

  async function leave() {
    if (hasUnsent(queries)) return setProblem("You are still signed in: a change was not saved yet.");
    const { error } = await signOut().catch(() => ({ error: true }));
    if (error) return setProblem("You could not be signed out.");
    announceSession();
    window.location.assign("/sign-in"); // a whole new page: token and tasks are gone from memory
  }

  return (
    <div className="account">
      <span role="alert" className="problem">
        {problem}
      </span>
      <span className="muted name">{name}</span>
      <button onClick={leave}>Sign out</button>
    </div>
  );
}
