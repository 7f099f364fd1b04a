import type { Metadata } from "next";
import { redirect } from "next/navigation";

import { Credentials } from "@/components/credentials";
import { currentUser } from "@/lib/session";

export const metadata: Metadata = { title: "Sign in" };

export default async function SignIn({ searchParams }: PageProps<"/sign-in">) {
  const { ended, sig } = await searchParams;
  const isForAssistant = sig !== undefined; // Better Auth has sent the browser here, and wants it back
  if (!isForAssistant && (await currentUser())) redirect("/");
  return <Credentials hasEnded={ended !== undefined} />;
}
