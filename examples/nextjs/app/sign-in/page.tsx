import type { Metadata } from "next";
import { redirect } from "next/navigation";

import { Credentials } from "@/components/credentials";
import { currentUser } from "@/lib/session";

export const metadata: Metadata = { title: "Sign in" };

export default async function SignIn({ searchParams }: PageProps<"/sign-in">) {
  if (await currentUser()) redirect("/");
  const { ended } = await searchParams;
  return <Credentials hasEnded={ended !== undefined} />;
}
