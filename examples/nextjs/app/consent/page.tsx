import type { Metadata } from "next";
import { redirect } from "next/navigation";

import { Consent } from "@/components/consent";
import { clientOf, nameOf } from "@/lib/assistants";
import { currentUser } from "@/lib/session";

export const metadata: Metadata = { title: "Connect an assistant" };

/** Better Auth sends the browser here when an assistant asks for access. It has signed the address. */
export default async function ConsentPage({ searchParams }: PageProps<"/consent">) {
  const user = await currentUser();
  const query = await searchParams;
  if (!user) redirect(`/sign-in?${addressOf(query)}`); // from where Better Auth comes back
  const { client_id, redirect_uri, scope } = query;
  const client = typeof client_id === "string" ? await clientOf(client_id) : null;
  if (!client || typeof redirect_uri !== "string" || typeof scope !== "string") redirect("/assistants");
  return (
    <Consent
      name={nameOf(client)}
      user={{ id: user.id, name: user.name }}
      scopes={scope.split(" ")}
      returnsTo={placeOf(redirect_uri)}
    />
  );
}

function addressOf(query: Record<string, string | string[] | undefined>): URLSearchParams {
  const pairs = Object.entries(query).flatMap(([name, values]) => [values ?? []].flat().map((value) => [name, value]));
  return new URLSearchParams(pairs);
}

/** Says where the assistant is, as far as its address tells. */
function placeOf(address: string): string {
  const { protocol, hostname } = new URL(address);
  if (["localhost", "127.0.0.1", "[::1]"].includes(hostname)) return "a program on this computer";
  return protocol === "https:" ? hostname : `an app on this device (${protocol}//)`;
}
