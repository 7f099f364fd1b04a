import { useSyncExternalStore } from "react";

const never = () => () => undefined;

/** Whether the page does something by now: what is typed into it earlier would be lost. */
export function useHydrated() {
  return useSyncExternalStore(
    never,
    () => true,
    () => false,
  );
}
