// Opens a page in Chromium, offline, in each of some settings, and says on stdout, as JSON, what came of it.
//   node page.mjs TOOLS CHROMIUM PAGE PICTURES
// TOOLS/node_modules holds playwright-core; PICTURES is a directory for a screenshot of each setting.
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [tools, executablePath, page_file, pictures] = process.argv.slice(2);
const { chromium } = createRequire(resolve(tools, "package.json"))("playwright-core");
const address = pathToFileURL(resolve(page_file)).href;

const settings = {
  light: { colorScheme: "light", viewport: { width: 1280, height: 900 } },
  dark: { colorScheme: "dark", viewport: { width: 1280, height: 900 } },
  phone: { colorScheme: "light", viewport: { width: 390, height: 844 }, deviceScaleFactor: 3, isMobile: true, hasTouch: true },
  phone_dark: { colorScheme: "dark", viewport: { width: 390, height: 844 }, deviceScaleFactor: 3, isMobile: true, hasTouch: true },
};

// Runs in the page: of each canvas, its size and how many of its pixels have the colour of each tone, nearly.
const looked_at = () => {
  const style = getComputedStyle(document.documentElement);
  const tones = ["vermillion", "blue", "green", "reference"].map((name) => {
    const hex = style.getPropertyValue(`--${name}`).trim();
    return [name, [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16))];
  });
  const canvases = [...document.querySelectorAll("canvas")].map((canvas) => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const counts = Object.fromEntries(tones.map(([name]) => [name, 0]));
    for (let at = 0; at < pixels.length; at += 4) {
      if (pixels[at + 3] < 250) continue;
      for (const [name, rgb] of tones) {
        if (rgb.every((value, index) => Math.abs(value - pixels[at + index]) <= 2)) counts[name]++;
      }
    }
    return { width: canvas.getBoundingClientRect().width, label: canvas.getAttribute("aria-label"), counts };
  });
  return {
    canvases,
    background: getComputedStyle(document.body).backgroundColor,
    language: document.documentElement.lang,
    scroll_width: document.documentElement.scrollWidth,
    client_width: document.documentElement.clientWidth,
    legends: [...document.querySelectorAll(".u-legend")].map((legend) => legend.innerText),
    text: document.querySelector("main").innerText,
    title: document.title,
  };
};

const settled = (page) => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));

// `--no-sandbox`: tests run as root in containers, where Chromium refuses its sandbox; the page is our own.
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
const seen = {};
try {
  for (const [name, setting] of Object.entries(settings)) {
    const context = await browser.newContext({ ...setting, offline: true });
    const page = await context.newPage();
    const [complaints, requests] = [[], []];
    page.on("console", (message) => complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("dialog", (dialog) => { complaints.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
    page.on("request", (request) => { if (request.url() !== address) requests.push(request.url().slice(0, 100)); });
    await page.goto(address);
    await settled(page);
    seen[name] = { ...(await page.evaluate(looked_at)) };
    await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
    if (name === "light") {
      const over = page.locator(".u-over").first();
      await over.scrollIntoViewIfNeeded();
      await over.hover();
      await settled(page);
      seen[name].hovered = await page.locator(".u-legend").first().innerText();
      // The same page made narrow and dark while it is open.
      await page.setViewportSize({ width: 390, height: 844 });
      await page.emulateMedia({ colorScheme: "dark" });
      await settled(page);
      seen.turned = { ...(await page.evaluate(looked_at)), complaints, requests };
    }
    Object.assign(seen[name], { complaints, requests });
    await context.close();
  }
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
