// What the code of README.md takes from elsewhere.
declare module "@tanstack/react-query" {
  export * from "@tanstack/query-core";
}

declare module "next/headers" {
  export function headers(): Promise<Headers>;
}

declare module "@/auth" {
  export const auth: { api: { getToken(options: { headers: Headers }): Promise<{ token: string }> } };
}
