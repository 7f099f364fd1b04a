const shape = { viewBox: "0 0 20 20", width: 18, height: 18, fill: "none", stroke: "currentColor", strokeWidth: 1.5 };
const small = { ...shape, width: 14, height: 14, strokeWidth: 2 };

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

export const Cross = () => (
  <svg {...small} aria-hidden>
    <path d="M5 5l10 10M15 5L5 15" strokeLinecap="round" />
  </svg>
);

export const Warning = () => (
  <svg {...small} aria-hidden>
    <path d="M10 2.5L18.5 17h-17zM10 8v4M10 14.2v.6" strokeLinecap="round" strokeLinejoin="round" />
  </svg>
);

export const Calendar = () => (
  <svg {...small} aria-hidden>
    <path d="M3 5h14v12H3zM3 9h14M7 2.5V6M13 2.5V6" strokeLinejoin="round" />
  </svg>
);

export const Flag = () => (
  <svg {...small} aria-hidden>
    <path d="M5 18V3h10l-2.5 4 2.5 4H5" strokeLinejoin="round" />
  </svg>
);

export const Filter = () => (
  <svg {...shape} aria-hidden>
    <path d="M3 5.5h14M5.5 10h9M8 14.5h4" strokeLinecap="round" />
  </svg>
);
