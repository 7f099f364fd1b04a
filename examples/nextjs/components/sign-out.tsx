"use client";

import { useState } from "react";

import { signOut } from "@/lib/auth-client";

export function SignOut({ name }: { name: string }) {
  const [failed, setFailed] = useState(false);

  async function leave() {
    const { error } = await signOut().catch(() => ({ error: true }));
    if (error) setFailed(true);
    else window.location.assign("/sign-in"); // a whole new page: token and tasks are gone from memory
  }

  return (
    <div className="account">
      <span role="alert" className="problem">
        {failed && "You could not be signed out."}
      </span>
      <span className="muted name">{name}</span>
      <button onClick={leave}>Sign out</button>
    </div>
  );
}
