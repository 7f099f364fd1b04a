import { SignOut } from "@/components/sign-out";
import type { User } from "@/lib/database";

export function Header({ user }: { user?: User }) {
  return (
    <header className="top">
      <h1>Tasks</h1>
      {user && (
        <div className="account">
          <span className="muted name">{user.name}</span>
          <a href="/assistants">Assistants</a>
          <SignOut />
        </div>
      )}
    </header>
  );
}
