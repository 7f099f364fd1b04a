// Writes the code of README.md, word for word, to the files that its first lines name.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";

const folder = new URL("readme/", import.meta.url);
const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder);
for (const [, code, name] of readme.matchAll(/^```ts\n(\/\/ (\S+\.ts)\n.*?)^```/gms)) {
  writeFileSync(new URL(name, folder), code);
}
