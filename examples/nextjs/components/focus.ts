/** Where the focus goes when what had it is gone: otherwise a keyboard would start from the top again. */

export const LIST = "tasks";

export function focusList() {
  document.getElementById(LIST)?.focus();
}

/** Go to the same control of the row beside this one. */
export function focusNeighbour(row: Element | null, selector: string) {
  const neighbour = row?.nextElementSibling ?? row?.previousElementSibling;
  const control = neighbour?.querySelector<HTMLElement>(selector);
  if (control) control.focus();
  else focusList();
}
