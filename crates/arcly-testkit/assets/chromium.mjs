// Chromium with a profile of its own, as every script of the tests runs it.
import { createRequire } from "node:module";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

// `modules` has playwright-core; `more` are further arguments. What is returned has the `browser`, and `close`, which leaves
// nothing behind.
export async function launch(modules, executablePath, viewport, more = []) {
  const { chromium } = createRequire(join(modules, "x.js"))("playwright-core");
  const profile = mkdtempSync(join(tmpdir(), "arcly-page-"));
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    viewport,
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required", ...more,
    ],
  });
  const close = async () => {
    await browser.close();
    // A process of Chromium that is late may still put something there; Node's own retries do not look again at what is there.
    for (let left = 50; ; left -= 1) {
      try {
        rmSync(profile, { recursive: true, force: true });
        break;
      } catch (error) {
        if (left === 0) throw error;
        await new Promise((done) => setTimeout(done, 100));
      }
    }
  };
  return { browser, close };
}
