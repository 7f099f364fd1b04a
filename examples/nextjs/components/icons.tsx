const shape = { viewBox: "0 0 20 20", width: 18, height: 18, fill: "none", stroke: "currentColor", strokeWidth: 1.5 };

export const Pencil = () => (
  <svg {...shape} aria-hidden>
    <path d="M12.6 4.4l3 3M4 16l.8-3.6 8.9-8.9a1.4 1.4 0 012 0l.8.8a1.4 1.4 0 010 2L7.6 15.2z" strokeLinejoin="round" />
  </svg>
);

export const Bin = () => (
  <svg {...shape} aria-hidden>
    <path d="M3.5 5.5h13M8 5.5V3.8h4v1.7M5.3 5.5l.7 10.7h8l.7-10.7M8.4 8.6v4.8M11.6 8.6v4.8" strokeLinejoin="round" />
  </svg>
);
