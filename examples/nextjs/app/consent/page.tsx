import type { Metadata } from "next";
import { redirect } from "next/navigation";

import { Consent } from "@/components/consent";
import { clientOf, nameOf } from "@/lib/assistants";
import { currentUser } from "@/lib/session";

export const metadata: Metadata = { title: "Connect an assistant" };

/** Better Auth sends the browser here when an assistant asks for access. It has signed the address. */
export default async function ConsentPage({ searchParams }: PageProps<"/consent">) {
  const user = await currentUser();
  if (!user) redirect("/sign-in");
  const { client_id, redirect_uri, scope } = await searchParams;
  const client = typeof client_id === "string" ? await clientOf(client_id) : null;
  if (!client || typeof redirect_uri !== "string" || typeof scope !== "string") redirect("/assistants");
  return (
    <Consent name={nameOf(client)} userName={user.name} scopes={scope.split(" ")} returnsTo={placeOf(redirect_uri)} />
  );
}

/** Says where the assistant is, as far as its address tells. */
function placeOf(address: string): string {
  const { protocol, hostname } = new URL(address);
  if (["localhost", "127.0.0.1", "[::1]"].includes(hostname)) return "a program on this computer";
  return protocol === "https:" ? hostname : `an app on this device (${protocol}//)`;
}
