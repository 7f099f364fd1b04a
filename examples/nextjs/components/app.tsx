"use client";

import { useLiveQuery } from "dexie-react-hooks";
import { type ReactNode, useEffect, useState } from "react";

import { AccountProvider } from "@/components/account";
import { Header } from "@/components/header";
import { currentUser } from "@/lib/auth-client";
import { adopt, state, type User } from "@/lib/database";

/** Shows the page to the user whose data this browser keeps, at once and without a network. */
export function App({ apiUrl, children }: { apiUrl: string; children: ReactNode }) {
  const { user, problem } = useStoredUser();
  if (!user) {
    return (
      <>
        <Header />
        <main>
          <p className="banner" role="status" hidden={!problem}>
            {problem}
          </p>
        </main>
      </>
    );
  }
  return (
    <AccountProvider apiUrl={apiUrl} user={user}>
      <Header user={user} />
      <main>{children}</main>
    </AccountProvider>
  );
}

function useStoredUser() {
  const stored = useLiveQuery(async () => (await state())?.user ?? null);
  const [user, setUser] = useState<User>(); // the same as long as the page is open
  const [problem, setProblem] = useState("");
  if (!user && stored) setUser(stored);
  useEffect(() => {
    if (stored !== null || user) return;
    const find = () => findUser().then(setProblem);
    void find();
    window.addEventListener("online", find);
    return () => window.removeEventListener("online", find);
  }, [stored, user]);
  return { user, problem };
}

/** Keep who is signed in, or ask to sign in. Returns what is wrong. */
async function findUser(): Promise<string> {
  try {
    const user = await currentUser();
    if (user) await adopt(user);
    else window.location.replace("/sign-in");
    return "";
  } catch {
    return "Your tasks appear here once you are online.";
  }
}
