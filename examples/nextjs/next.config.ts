import { withSerwist } from "@serwist/turbopack";
import type { NextConfig } from "next";

const config: NextConfig = {
  serverExternalPackages: ["libsql"], // it has a binary, which cannot be bundled
  turbopack: { root: import.meta.dirname },
  poweredByHeader: false,
  headers: async () => [
    // No other site may show a page of this one, such as the consent, in a frame and have the user click into it.
    { source: "/:path*", headers: [{ key: "Content-Security-Policy", value: "frame-ancestors 'none'" }] },
  ],
};

export default withSerwist(config);
