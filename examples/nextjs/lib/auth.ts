/** Better Auth, on the server: who is signed in, and the tokens that the API accepts. */

import { betterAuth } from "better-auth";

import { options } from "@/lib/auth-options";

export const auth = betterAuth(options);
