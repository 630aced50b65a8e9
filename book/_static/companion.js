/* Previews of what links lead to, the scripts of interactive figures where a page has one, and wide formulas by keyboard. */
(() => {
  const here = new URL(".", document.currentScript.src);
  const site = new URL("..", here).href;
  const load = (name) =>
    new Promise((done, fail) => {
      const script = document.createElement("script");
      Object.assign(script, { src: new URL(name, here).href, onload: done, onerror: fail });
      document.head.append(script);
    });

  if (document.querySelector(".live")) load("live.js");
  if (document.querySelector(".explore"))
    load("d3/d3.min.js")
      .then(() => load("plot/plot.umd.min.js"))
      .then(() => load("explore.js"));

  // A formula that is wider than the page scrolls; the keyboard does so where it can stop.
  const stop = () => {
    for (const formula of document.querySelectorAll("div.math"))
      if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
      else formula.removeAttribute("tabindex");
  };
  addEventListener("resize", stop);
  document.addEventListener("toggle", stop, true); // what was folded has no width
  document.fonts.ready.then(stop);

  // A picture of many panels would be too small to read on a phone: it keeps most of its size, and scrolls.
  addEventListener("load", () => {
    if (innerWidth > 600) return;
    for (const picture of document.querySelectorAll(".cell_output figure.align-default img")) {
      if (!picture.clientWidth || picture.naturalWidth < 1.8 * picture.clientWidth) continue;
      const box = Object.assign(document.createElement("div"), { className: "wide-picture", tabIndex: 0 });
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", "Figure, scrolls sideways");
      picture.replaceWith(box);
      box.append(picture);
      picture.style.width = `${0.7 * picture.naturalWidth}px`;
    }
  });

  let loading, wanted;
  const box = document.createElement("div");
  box.className = "preview";
  box.hidden = true;
  document.body.append(box);

  const hide = () => {
    wanted = null;
    box.hidden = true;
  };
  const show = async (link) => {
    wanted = link;
    loading ??= load("previews.js");
    await loading;
    const [page] = link.href.slice(site.length).split("?");
    const found = window.companionPreviews[page];
    if (wanted !== link || !found) return;
    box.innerHTML = found;
    box.hidden = false;
    const at = link.getClientRects()[0];
    const room = document.documentElement.clientWidth - box.offsetWidth - 8;
    box.style.left = `${Math.max(8, Math.min(at.left, room)) + scrollX}px`;
    const above = at.bottom + box.offsetHeight + 8 > innerHeight && at.top > box.offsetHeight;
    box.style.top = `${(above ? at.top - box.offsetHeight - 6 : at.bottom + 6) + scrollY}px`;
  };
  const target = (event) => {
    const link = event.target.closest?.("article a[href*='#']:not(.headerlink)");
    return link && link.href.startsWith(site) ? link : null;
  };
  document.addEventListener("pointerover", (e) => {
    if (e.pointerType !== "touch" && target(e)) show(target(e));
  });
  document.addEventListener("pointerout", (e) => target(e) && hide());
  document.addEventListener("focusin", (e) => target(e)?.matches(":focus-visible") && show(target(e)));
  document.addEventListener("focusout", (e) => target(e) && hide());
  document.addEventListener("keydown", (e) => e.key === "Escape" && hide());
})();
