import { useEffect } from "react";

import { onSession } from "@/lib/auth-client";

/** Load a page anew when somebody signs in or out in another tab: the server has made it for the user of before. */
export function useSession() {
  useEffect(() => onSession(() => window.location.reload()), []);
}
