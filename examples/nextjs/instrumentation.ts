/** Next.js calls this once, before the first request: the tables of Better Auth are made. */
export async function register() {
  if (process.env.NEXT_RUNTIME !== "nodejs") return;
  const { getMigrations } = await import("better-auth/db/migration");
  const { options } = await import("@/lib/auth-options");
  await (await getMigrations(options)).runMigrations();
}
