/// <reference lib="webworker" />
/** The service worker: it keeps the page and its files, so that they open without a network. It keeps no tasks. */

import { type PrecacheEntry, Serwist } from "serwist";

declare const self: ServiceWorkerGlobalScope & { __SW_MANIFEST: (PrecacheEntry | string)[] };

new Serwist({
  precacheEntries: self.__SW_MANIFEST,
  precacheOptions: { ignoreURLParametersMatching: [/./], cleanupOutdatedCaches: true }, // "/?show=active" is "/"
  skipWaiting: true,
  clientsClaim: true,
}).addEventListeners();
