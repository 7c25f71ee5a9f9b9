// Keeps the page live: takes the same page again and shows its new middle. Without it the page reloads itself.
"use strict";
const EVERY = 2000;

async function refresh() {
  try {
    const answer = await fetch("/", { cache: "no-store" });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const main = fresh.querySelector("main");
    if (!answer.ok || !main) throw new Error("not the page");
    document.querySelector("main").replaceWith(main);
    document.title = fresh.title;
    document.body.classList.remove("away");
  } catch {
    document.body.classList.add("away");
  }
  setTimeout(refresh, document.hidden ? 5 * EVERY : EVERY);
}

setTimeout(refresh, EVERY);
