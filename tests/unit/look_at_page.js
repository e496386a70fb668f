// Looks at every frame and writes, by name, width and scheme, what is wrong with its page.
"use strict";
const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const ratio = (a, b) => {
  const [hi, lo] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (hi + 0.05) / (lo + 0.05);
};
// "rgb(1, 2, 3)", "rgba(1, 2, 3, 0.5)", "color(srgb 0.1 0.2 0.3 / 0.4)" -> [r, g, b, alpha], 0 to 1
const parse = (text) => {
  const numbers = (text.match(/-?[\d.]+(e-?\d+)?/g) || []).map(Number);
  const scale = text.startsWith("color(") ? 1 : 255;
  const alpha = numbers.length > 3 ? numbers[3] : 1;
  return numbers.length < 3 ? null : [...numbers.slice(0, 3).map((v) => v / scale), alpha];
};
const over = (top, below) => below.map((v, i) => top[3] * top[i] + (1 - top[3]) * v);

function backdrop(element, view) {
  const layers = [];
  for (let at = element; at; at = at.parentElement) {
    const colour = parse(view.getComputedStyle(at).backgroundColor);
    if (colour && colour[3] > 0) layers.push(colour);
    if (colour && colour[3] === 1) break;
  }
  return layers.reverse().reduce((below, top) => over(top, below), [1, 1, 1]);
}

function look(frame) {
  const page = frame.contentDocument, view = frame.contentWindow;
  if (frame.dataset.scheme === "dark")
    for (const sheet of page.styleSheets)
      for (const rule of sheet.cssRules)
        if (rule.media && rule.media.mediaText.includes("dark")) rule.media.mediaText = "all";
  for (const part of page.querySelectorAll("details")) part.open = true;
  const faults = [], all = (selector) => [...page.querySelectorAll(selector)];
  const fault = (kind, what) => faults.push(`${kind}: ${what}`);
  const words = (element) => element.textContent.trim().replace(/\s+/g, " ").slice(0, 60);

  if (!page.documentElement.lang) fault("language", "html has no lang");
  if (!page.title) fault("title", "the page has no title");
  for (const [selector, number] of [["main", 1], ["h1", 1]])
    if (all(selector).length !== number) fault("landmark", `${all(selector).length} ${selector}`);
  for (const element of all("nav, section"))
    if (!element.getAttribute("aria-label") && !page.getElementById(element.getAttribute("aria-labelledby")))
      fault("landmark", `${element.tagName} ${element.id} has no name`);
  for (const element of page.body.querySelectorAll("p, table, svg, h2"))
    if (!element.closest("main, header, footer, nav")) fault("landmark", `outside: ${words(element)}`);

  let level = 0;
  for (const heading of all("h1, h2, h3, h4, h5, h6")) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1) fault("heading order", `h${level}, then h${next} ${words(heading)}`);
    level = next;
  }
  for (const svg of all("svg"))
    if (svg.getAttribute("role") !== "img" || (svg.getAttribute("aria-label") || "").length < 20)
      fault("svg without a name", svg.outerHTML.slice(0, 80));
  for (const image of all("img")) if (!image.alt) fault("img without alt", image.src);
  for (const th of all("th"))
    if (!["col", "row"].includes(th.getAttribute("scope"))) fault("th without scope", words(th));
  for (const table of all("main table"))
    if (!table.caption || !table.querySelector("th[scope=col]")) fault("table", words(table));
  for (const region of all("[tabindex]"))
    if (!region.getAttribute("aria-label")) fault("region without a name", words(region));
  const ids = all("[id]").map((element) => element.id);
  for (const id of ids.filter((id, place) => ids.indexOf(id) !== place)) fault("id twice", id);
  for (const link of all("a[href]")) {
    const target = link.getAttribute("href");
    if (!target.startsWith("#") || !page.getElementById(target.slice(1))) fault("link to nowhere", target);
    if (!words(link)) fault("link without words", target);
  }

  const width = view.innerWidth;
  if (page.documentElement.scrollWidth > width)
    fault("wider than the screen", `${page.documentElement.scrollWidth} of ${width}`);

  // Text: 4.5 to 1; what is large (24 px, or 18.66 px and bold): 3 to 1.
  let texts = 0;
  const walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.getClientRects().length) continue;
    texts += 1;
    const style = view.getComputedStyle(element);
    const below = backdrop(element, view);
    const colour = parse(element.closest("svg") ? style.fill : style.color);
    if (!colour) continue;
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const seen = ratio(over([...colour.slice(0, 3), colour[3]], below), below);
    if (seen < (large ? 3 : 4.5)) fault("contrast", `${seen.toFixed(2)} ${node.data.trim().slice(0, 40)}`);
  }
  // Marks of figures: 3 to 1 against what is behind them.
  const root = view.getComputedStyle(page.documentElement);
  for (const name of ["--base", "--tuned", "--good", "--warn", "--ink", "--muted"]) {
    const value = root.getPropertyValue(name).trim();
    if (!value) continue;
    const probe = page.createElement("span");
    probe.style.color = value;
    page.body.append(probe);
    const seen = ratio(parse(view.getComputedStyle(probe).color).slice(0, 3), backdrop(page.querySelector("section"), view));
    probe.remove();
    if (seen < 3) fault("contrast", `${seen.toFixed(2)} of ${name}`);
  }
  const behind = parse(view.getComputedStyle(page.body).backgroundColor) || [1, 1, 1];
  return {
    faults, texts, svgs: all("svg").length, tables: all("table").length,
    page: Math.round((255 * (behind[0] + behind[1] + behind[2])) / 3),
  };
}

window.addEventListener("load", () => {
  const found = {};
  for (const frame of document.querySelectorAll("iframe"))
    try {
      found[`${frame.dataset.name} ${parseInt(frame.style.width, 10)} ${frame.dataset.scheme}`] = look(frame);
    } catch (error) {
      found[`${frame.dataset.name} failed`] = String(error.stack);
    }
  document.querySelectorAll("iframe").forEach((frame) => frame.remove());
  document.getElementById("seen").textContent = JSON.stringify(found);
});
