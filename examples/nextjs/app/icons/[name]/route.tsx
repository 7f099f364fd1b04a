import { ImageResponse } from "next/og";

/** The app's icon as PNG files, which some devices need. They are drawn when the front end is built. */
const SIZES: Record<string, number> = { "192.png": 192, "512.png": 512, "maskable-512.png": 512 };

export const dynamic = "force-static";
export const dynamicParams = false;
export const generateStaticParams = () => Object.keys(SIZES).map((name) => ({ name }));

export async function GET(_request: Request, { params }: { params: Promise<{ name: string }> }) {
  const { name } = await params;
  const size = SIZES[name] ?? 0;
  const isMaskable = name.startsWith("maskable"); // the device cuts off its edges
  return new ImageResponse(
    <svg width={size} height={size} viewBox={isMaskable ? "-4 -4 40 40" : "0 0 32 32"}>
      {isMaskable && <rect x="-4" y="-4" width="40" height="40" fill="#2a55c9" />}
      <rect width="32" height="32" rx="8" fill="#2a55c9" />
      <path d="M9 16.5l5 5 9-10" fill="none" stroke="#fff" strokeWidth="3" strokeLinecap="round" strokeLinejoin="round" />
    </svg>,
    { width: size, height: size },
  );
}
