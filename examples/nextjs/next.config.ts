import { withSerwist } from "@serwist/turbopack";
import type { NextConfig } from "next";

const config: NextConfig = {
  serverExternalPackages: ["libsql"], // it has a binary, which cannot be bundled
  turbopack: { root: import.meta.dirname },
  poweredByHeader: false,
};

export default withSerwist(config);
