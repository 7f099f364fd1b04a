"use client";

/** What is shown when the server could not make a page. */
export default function Failed() {
  return (
    <main className="narrow">
      <h1>Something went wrong</h1>
      <p className="muted">The page could not be made. That is no fault of yours.</p>
      <button className="primary" onClick={() => window.location.reload()}>
        Try again
      </button>
    </main>
  );
}
