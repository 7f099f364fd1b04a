import type { View } from "@/lib/view";

interface Props {
  view: View;
  isLoaded: boolean;
  isOnline: boolean;
  onClear: () => void;
}

/** Why there is no task to be seen. */
export function Nothing({ view, isLoaded, isOnline, onClear }: Props) {
  if (!isLoaded && !isOnline) return <p className="nothing">Your tasks appear here once you are online again.</p>;
  if (!isLoaded) {
    return (
      <div className="nothing" role="status">
        <span className="for-ears">Loading your tasks</span>
        <span className="bone" />
        <span className="bone" />
        <span className="bone" />
      </div>
    );
  }
  if (view.q) {
    return (
      <div className="nothing" role="status">
        <p>No task matches “{view.q}”.</p>
        <button onClick={onClear}>Clear the search</button>
      </div>
    );
  }
  const said = {
    all: "Nothing to do yet. Add your first task above.",
    active: "Nothing left to do.",
    completed: "Nothing completed yet.",
  };
  return (
    <p className="nothing" role="status">
      {said[view.show]}
    </p>
  );
}
