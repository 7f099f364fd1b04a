/** What somebody is typing: the focus must stay with it, and leaving the page would lose it. */

export function isTyping() {
  return document.activeElement?.matches("input:not([type=checkbox], [type=radio]), select, textarea") ?? false;
}

/** Whether there is an open editor, or a new task that was not added yet. */
export function hasTyped() {
  return document.querySelector(".editor, .new-task textarea") !== null;
}
