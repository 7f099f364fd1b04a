import { connection } from "next/server";

import { App } from "@/components/app";
import { Tasks } from "@/components/tasks";
import { apiUrl } from "@/lib/config";

/** The same page for everybody, so that the service worker can keep it. Who is signed in is known in the browser. */
export default async function Home() {
  await connection(); // API_URL is read when the page is requested, not when it is built
  return (
    <App apiUrl={apiUrl()}>
      <Tasks />
    </App>
  );
}
