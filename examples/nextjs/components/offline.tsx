"use client";

import { useEffect } from "react";

/** Registers the service worker, which keeps the page itself. `next dev` has none. */
export function Offline() {
  useEffect(() => {
    if (process.env.NODE_ENV !== "production") return;
    const options = { scope: "/", updateViaCache: "none" } as const;
    navigator.serviceWorker?.register("/serwist/sw.js", options).catch(() => undefined);
  }, []);
  return null;
}
