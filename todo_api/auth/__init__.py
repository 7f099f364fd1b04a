"""Who is calling: tokens, keys, and the guard of every route under /api/."""
