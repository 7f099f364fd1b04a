import { redirect } from "next/navigation";

import { Providers } from "@/components/providers";
import { SignOut } from "@/components/sign-out";
import { Tasks } from "@/components/tasks";
import { apiUrl, currentUser, tasksOfThisRequest } from "@/lib/session";
import { queryOf, viewOf } from "@/lib/view";

const PATIENCE_MS = 2_000;

export default async function Home({ searchParams }: PageProps<"/">) {
  const user = await currentUser();
  if (!user) redirect("/sign-in");
  const view = viewOf(await searchParams);
  // Without the first page the browser asks for it itself, and says what is wrong.
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const firstPage = await (await tasksOfThisRequest()).page(queryOf(view), { signal }).catch(() => undefined);
  return (
    <Providers apiUrl={apiUrl()} userId={user.id} view={view} firstPage={firstPage}>
      <header className="top">
        <h1>Tasks</h1>
        <SignOut name={user.name} />
      </header>
      <main>
        <Tasks firstView={view} />
      </main>
    </Providers>
  );
}
