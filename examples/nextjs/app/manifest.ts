import type { MetadataRoute } from "next";

/** What a device needs to know to install the front end as an app. */
export default function manifest(): MetadataRoute.Manifest {
  const icon = (size: number, purpose: "any" | "maskable") => {
    const name = purpose === "any" ? size : `maskable-${size}`;
    return { src: `/icons/${name}.png`, sizes: `${size}x${size}`, type: "image/png", purpose };
  };
  return {
    id: "/",
    name: "Tasks",
    short_name: "Tasks",
    description: "Your tasks, with or without a network",
    start_url: "/",
    display: "standalone",
    background_color: "#f5f5f2",
    theme_color: "#f5f5f2",
    icons: [icon(192, "any"), icon(512, "any"), icon(512, "maskable")],
  };
}
