/** Builds and serves the service worker. */

import { createSerwistRoute } from "@serwist/turbopack";

export const { dynamic, dynamicParams, revalidate, generateStaticParams, GET } = createSerwistRoute({
  swSrc: "worker/sw.ts",
  additionalPrecacheEntries: [{ url: "/", revision: crypto.randomUUID() }], // a new one with each build
  useNativeEsbuild: true,
});
