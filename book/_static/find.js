/* Search: pages ranked by where the words stand, each with an excerpt. It replaces Sphinx's own list,
   whose excerpts are fetched, which a page opened from a file may not do. The text of the book is in
   excerpts.js, written when the site is built. */
(() => {
  const fold = (text) => text.toLowerCase().normalize("NFKD").replace(/[\u0300-\u036f]/g, "");
  const words = (query) => fold(query).split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  const count = (text, pattern) => (text.match(pattern) || []).length;
  const pattern = (word) => new RegExp(`(?<![\\p{L}\\p{N}])${word}[\\p{L}]*`, "gu");

  /** Score one section: every word must stand in the page; titles weigh most, whole words more. */
  const rate = (section, patterns) =>
    patterns.reduce(
      (sum, p) =>
        sum +
        40 * Math.min(1, count(fold(section.page), p)) +
        15 * Math.min(1, count(fold(section.title), p)) +
        6 * Math.log1p(Math.min(12, count(fold(section.text), p))),
      0,
    );

  /** What explains comes before what lists. */
  const weight = (address) =>
    /theorem|background|smaller/.test(address)
      ? 1.6
      : /claims|contribute|references|provenance|cluster|speed|proofs|plan/.test(address)
        ? 0.5
        : 1;

  const excerpt = (text, patterns) => {
    const places = patterns.map((p) => fold(text).search(p)).filter((at) => at >= 0);
    const start = Math.max(0, (places.length ? Math.min(...places) : 0) - 70);
    const from = start ? text.indexOf(" ", start) + 1 : 0;
    const paragraph = document.createElement("p");
    paragraph.className = "context";
    const cut = text.slice(from, from + 230);
    const marks = patterns.flatMap((p) => [...fold(cut).matchAll(p)].map((m) => [m.index, m[0].length]));
    let last = 0;
    paragraph.append(start ? "… " : "");
    for (const [at, length] of marks.sort((a, b) => a[0] - b[0])) {
      if (at < last) continue;
      const mark = document.createElement("mark");
      mark.textContent = cut.slice(at, at + length);
      paragraph.append(cut.slice(last, at), mark);
      last = at + length;
    }
    paragraph.append(cut.slice(last), " …");
    return paragraph;
  };

  const find = (query) => {
    const patterns = words(query).map(pattern);
    const pages = new Map();
    for (const section of window.companionText) {
      const found = pages.get(section.address) || { sections: [], text: "" };
      found.sections.push({ ...section, score: rate(section, patterns) });
      found.text += fold(`${section.page} ${section.title} ${section.text} `);
      pages.set(section.address, found);
    }
    return [...pages.values()]
      .filter(({ text }) => patterns.length && patterns.every((p) => count(text, p)))
      .map(({ sections }) => {
        sections.sort((a, b) => b.score - a.score);
        const [best, second] = sections;
        const score = best.score + (second ? second.score / 3 : 0);
        return { best, patterns, score: score * weight(best.address) };
      })
      .sort((a, b) => b.score - a.score);
  };
  window.companionFind = find;

  const show = (query) => {
    const place = document.querySelector("#search-results");
    const found = find(query);
    const heading = document.createElement("h2");
    heading.textContent = found.length
      ? `${found.length} ${found.length === 1 ? "page has" : "pages have"} “${query}”`
      : `No page has “${query}”`;
    const list = document.createElement("ul");
    list.className = "search";
    for (const { best, patterns } of found) {
      const item = document.createElement("li");
      const link = document.createElement("a");
      link.href = `${best.address}.html${best.anchor ? `#${best.anchor}` : ""}`;
      link.textContent = best.title === best.page ? best.page : `${best.page} › ${best.title}`;
      item.append(link, excerpt(best.text, patterns));
      list.append(item);
    }
    place.replaceChildren(heading, list);
  };

  if (typeof Search === "object") Search.performSearch = show; // a constant of searchtools.js
})();
