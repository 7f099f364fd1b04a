/** Where the focus goes when what had it is gone: otherwise a keyboard would start from the top again. */

import { useEffect } from "react";

export const LIST = "tasks";

export function focusList() {
  document.getElementById(LIST)?.focus();
}

/** Whether the user has gone on to something else than the list. */
export function hasFocusElsewhere() {
  const focused = document.activeElement;
  return focused !== document.body && focused?.id !== LIST;
}

/** Go to the same control of the row beside this one. */
export function focusNeighbour(row: Element | null, selector: string) {
  const neighbour = row?.nextElementSibling ?? row?.previousElementSibling;
  const control = neighbour?.querySelector<HTMLElement>(selector);
  if (control) control.focus();
  else focusList();
}

/** Give the focus to the list when whatever had it is gone. */
export function useFocusKept() {
  useEffect(() => {
    let last: Element | undefined;
    const note = ({ target }: FocusEvent) => void (last = target as Element);
    const look = () => last?.isConnected === false && document.activeElement === document.body && focusList();
    const observer = new MutationObserver(() => requestAnimationFrame(look));
    observer.observe(document.body, { childList: true, subtree: true });
    document.addEventListener("focusin", note);
    return () => {
      observer.disconnect();
      document.removeEventListener("focusin", note);
    };
  }, []);
}
