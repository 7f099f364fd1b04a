"use client";

import { useEffect } from "react";

/** Registers the service worker, which keeps the page itself. `next dev` has none. */
export function Offline() {
  useEffect(() => {
    if (process.env.NODE_ENV !== "production") return;
    const options = { type: "module", updateViaCache: "none" } as const;
    navigator.serviceWorker?.register("/serwist/sw.js", { scope: "/", ...options }).catch(() => undefined);
  }, []);
  return null;
}
