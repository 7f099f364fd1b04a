import type { Metadata } from "next";
import { redirect } from "next/navigation";

import { Credentials } from "@/components/credentials";
import { currentUser } from "@/lib/session";

export const metadata: Metadata = { title: "Sign up" };

export default async function SignUp({ searchParams }: PageProps<"/sign-up">) {
  const { sig } = await searchParams;
  if (sig === undefined && (await currentUser())) redirect("/");
  return <Credentials isNew />;
}
