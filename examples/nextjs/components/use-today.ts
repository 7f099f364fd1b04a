"use client";

import { useEffect, useState } from "react";

import { dayOf, untilTomorrow } from "@/lib/days";

const LONGEST_MS = 60_000; // the clock or the time zone may be set meanwhile

/** Today on the user's clock, also after midnight, a journey or a sleep of the device. */
export function useToday(): string {
  const [today, setToday] = useState(() => dayOf(new Date()));
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>;
    const look = () => {
      const now = new Date();
      setToday(dayOf(now));
      clearTimeout(timer);
      timer = setTimeout(look, Math.min(untilTomorrow(now), LONGEST_MS));
    };
    look();
    document.addEventListener("visibilitychange", look);
    return () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, []);
  return today;
}
