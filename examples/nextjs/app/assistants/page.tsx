import type { Metadata } from "next";
import Link from "next/link";
import { redirect } from "next/navigation";

import { AssistantList } from "@/components/assistant-list";
import { CopyAddress } from "@/components/copy-address";
import { assistantsOf, disconnect } from "@/lib/assistants";
import { ASSISTANT_TOKEN_SECONDS, LEEWAY_SECONDS, mcpUrl } from "@/lib/config";
import { currentUser } from "@/lib/session";

export const metadata: Metadata = { title: "Assistants" };

export default async function Assistants() {
  const user = await currentUser();
  if (!user) redirect("/sign-in");
  const assistants = await assistantsOf(user.id);
  return (
    <>
      <header className="top">
        <h1>Assistants</h1>
        <Link href="/" prefetch={false}>
          Back to your tasks
        </Link>
      </header>
      <main>
        <section className="card stack padded" aria-labelledby="connect">
          <h2 id="connect">Connect an assistant</h2>
          <p className="muted">
            Claude, ChatGPT and other assistants can work with your tasks. In the settings of yours, add a connector
            (also called an MCP server) with this address:
          </p>
          <CopyAddress address={mcpUrl()} />
          <p className="muted">It then sends you here to sign in, and you decide what it may do.</p>
        </section>
        <section className="card" aria-labelledby="connected">
          <h2 id="connected" className="heading">
            Connected
          </h2>
          <AssistantList
            assistants={assistants}
            minutes={Math.ceil((ASSISTANT_TOKEN_SECONDS + LEEWAY_SECONDS) / 60)}
            revoke={revoke.bind(null, user.id)}
          />
        </section>
      </main>
    </>
  );
}

/** `userId` is who was shown the list: another user may have signed in since. */
async function revoke(userId: string, clientId: string) {
  "use server";
  const user = await currentUser();
  if (user?.id !== userId) redirect("/assistants");
  await disconnect(userId, clientId);
}
