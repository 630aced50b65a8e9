/* The bar at a page's parameters: its cells run here, in a worker, by the book's own package.

   The bar is a form with the attribute data-live, in JSON: the page, its parameters, the runtime's files. While it works
   the document's root says how far it is: data-live-state is idle, loading, running, done or failed. */
window.companionRun = (() => {
  const here = new URL(".", document.currentScript.src);
  const assets = new URL("../live-assets/", here);
  const bar = document.querySelector("form[data-live]");
  const { page, parameters, files, packages } = JSON.parse(bar.dataset.live);
  const find = (name) => bar.querySelector(`[data-live-${name}]`);
  const field = (name) => bar.elements[`live-${name}`];
  const status = find("status"), alert = find("alert"), stop = find("stop");
  const root = document.documentElement;
  const state = (now) => (root.dataset.liveState = now);
  const make = (tag, given) => Object.assign(document.createElement(tag), given);
  const banner = make("p", { className: "live-banner", hidden: true });
  document.querySelector("article").append(banner);
  state("idle");

  /* --- what a parameter may be: as `companion run` reads it --------------------------------------------------- */

  const number = String.raw`[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?`;
  const bound = (text) => Number(text.trim().replace("inf", "Infinity"));
  const inside = (value, interval) => {
    const [low, high] = interval.slice(1, -1).split(",").map(bound);
    return (interval[0] === "[" ? value >= low : value > low) && (interval.at(-1) === "]" ? value <= high : value < high);
  };
  const allowed = {
    bool: (p, text) => ["true", "false"].includes(text.toLowerCase()),
    str: (p, text) => /^(?: |[^\p{C}\p{Z}])+$/u.test(text),
    int: (p, text) => /^[+-]?[0-9]{1,1000}$/.test(text),
    float: (p, text) => new RegExp(`^${number}$`).test(text) && Number.isFinite(Number(text)),
    list: (p, text) => {
      const words = text.split(" ");
      const right = (word) =>
        p.choices.length ? p.choices.includes(word) : /^([1-9][0-9]{0,17}|0)$/.test(word) && inside(Number(word), p.interval);
      return new Set(words).size === words.length && words.every(right);
    },
  };
  const refusal = (p, text) => {
    const value = ["int", "float"].includes(p.type) ? Number(text) : text;
    const right = p.is_list
      ? allowed.list(p, text)
      : allowed[p.type](p, text) && (!p.choices.length || p.choices.includes(value)) && (!p.interval || inside(value, p.interval));
    if (right) return "";
    const shown = text.length <= 60 ? text : text.slice(0, 57) + "…";
    const quoted = shown.includes("'") && !shown.includes('"') ? `"${shown}"` : `'${shown.replace(/['\\]/g, "\\$&")}'`;
    return `parameter ${p.name} is ${quoted}; allowed: ${p.allowed}.`;
  };
  const given = (p) => {
    const input = field(p.name);
    if (input.type === "file") return input.files.length ? `${p.name}.safetensors` : p.default;
    return input.type === "checkbox" ? String(input.checked) : input.value;
  };

  /* --- the runtime: its files, once a page, and a worker ------------------------------------------------------ */

  const arrived = {}; // name: bytes, or the base64 that a script brought
  const load = (src) =>
    new Promise((done, fail) => {
      const onerror = () => fail(new Error(`${src} is missing`));
      document.head.append(make("script", { src, onload: done, onerror }));
    });
  const put = (name, data) => (arrived[name] = data); // called by those scripts
  const MB = (bytes) => (bytes / 1e6).toFixed(1);

  async function bring() {
    const all = files.reduce((sum, [, size]) => sum + size, 0);
    let have = 0;
    const more = (bytes) => {
      have += bytes;
      status.textContent = `Loading the runtime: ${MB(have)} of ${MB(all)} MB.`;
    };
    more(0);
    for (const [name, size] of files) {
      if (root.dataset.liveState !== "loading") throw new Error("stopped");
      if (arrived[name]) more(size);
      else if (location.protocol === "file:") {
        await load(new URL(`${name}.js`, assets).href); // a file may not fetch its neighbours
        more(size);
      } else {
        const answer = await fetch(new URL(name, assets));
        if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
        const parts = [];
        for await (const part of answer.body) more(part.length), parts.push(part);
        arrived[name] = new Uint8Array(await new Blob(parts).arrayBuffer());
      }
    }
  }

  let runtime; // promise of a worker in which Python has started
  let end = () => {};
  async function begin() {
    state("loading");
    if (!companionRun.worker) await load(new URL("worker.js", here).href);
    await bring();
    status.textContent = "Starting Python.";
    const script = new Blob([`(${companionRun.worker})();`], { type: "text/javascript" });
    const worker = new Worker(URL.createObjectURL(script));
    const waiting = new Map();
    let count = 0;
    worker.onmessage = ({ data: { id, value, error } }) => {
      const { done, fail } = waiting.get(id);
      waiting.delete(id);
      error === undefined ? done(value) : fail(new Error(error));
    };
    end = () => {
      runtime = undefined;
      worker.terminate();
      waiting.forEach(({ fail }) => fail(new Error("stopped")));
    };
    const call = (name, given) =>
      new Promise((done, fail) => {
        waiting.set(++count, { done, fail });
        worker.postMessage({ id: count, call: name, given });
      });
    await call("start", { files: arrived, packages });
    return call;
  }
  const start = () =>
    (runtime ??= begin().catch((error) => {
      runtime = undefined;
      throw error;
    }));

  /* --- the page's cells --------------------------------------------------------------------------------------- */

  const cells = [...document.querySelectorAll("div.cell")].filter((cell) => cell.querySelector("div.cell_input"));
  const source = (cell) => cell.querySelector("div.cell_input pre").textContent;
  const published = new Map(); // cell: its output's nodes, kept for Reset

  const place = (cell) => {
    let output = cell.querySelector(":scope > .cell_output, :scope > details > .cell_output");
    if (!output) cell.append((output = make("div", { className: "cell_output docutils container" })));
    if (!published.has(cell)) published.set(cell, [...output.childNodes].map((node) => node.cloneNode(true)));
    return output;
  };
  const restore = () => {
    for (const [cell, nodes] of published) place(cell).replaceChildren(...nodes.map((node) => node.cloneNode(true)));
    document.querySelectorAll(".live-cell").forEach((cell) => cell.classList.remove("live-cell"));
    document.querySelectorAll(".live-note").forEach((note) => note.remove());
  };

  /* A figure keeps its caption and its alternative text; only the picture changes. */
  const block = {
    text: (data) => {
      const box = make("div", { className: "output stream highlight-myst-ansi notranslate" });
      box.innerHTML = '<div class="highlight"><pre></pre></div>';
      box.querySelector("pre").textContent = data;
      return box;
    },
    html: (data) => make("div", { className: "output text_html", innerHTML: data }),
    figure: (data, old) => {
      const box = old ?? make("div", { className: "output" });
      const img = box.matches("img") ? box : box.querySelector("img") ?? box.appendChild(make("img", { alt: "Figure drawn by this cell." }));
      img.src = URL.createObjectURL(new Blob([data], { type: "image/svg+xml" }));
      return box;
    },
  };
  const show = (cell, outputs) => {
    const output = place(cell);
    const pictures = [...output.children].filter((e) => e.matches("img, figure:not(.slider), a") || (e.querySelector(":scope img") && !e.querySelector(".slider")));
    output.replaceChildren(...outputs.map(({ kind, data }) => block[kind](data, kind === "figure" ? pictures.shift() : undefined)));
    cell.classList.add("live-cell");
  };
  const note = (cell, kind, text) => cell.append(make("div", { className: `live-note live-${kind}`, textContent: text }));

  const command = () =>
    `companion run ${page}` + parameters.filter((p) => given(p) !== p.default).map((p) => ` -p ${p.name}=${given(p)}`).join("");

  let current = 0; // the run that counts; an older one gives up when it notices
  async function run() {
    const mine = ++current;
    alert.textContent = "";
    for (const p of parameters) field(p.name).removeAttribute("aria-invalid");
    for (const p of parameters) {
      const wrong = refusal(p, given(p));
      if (!wrong) continue;
      alert.textContent = wrong;
      field(p.name).setAttribute("aria-invalid", "true");
      field(p.name).focus();
      return;
    }
    const values = Object.fromEntries(parameters.map((p) => [p.name, [p.type, given(p)]]));
    stop.disabled = false;
    try {
      const call = await start();
      for (const p of parameters) {
        const [file] = field(p.name).files ?? [];
        if (file) await call("write", { name: given(p), data: await file.arrayBuffer() });
      }
      state("running");
      restore();
      const shown = parameters.map((p) => `${p.name} = ${given(p)}`).join(", ");
      let live = 0;
      for (const [index, cell] of cells.entries()) {
        if (mine !== current) return;
        status.textContent = `Running cell ${index + 1} of ${cells.length}.`;
        cell.classList.add("live-now");
        const own = cell.matches(".tag_parameters") ? values : {};
        const result = await call("run", { number: index + 1, source: source(cell), values: own }).finally(() => cell.classList.remove("live-now"));
        if (mine !== current) return;
        if (result.state === "elsewhere") {
          note(cell, "elsewhere", `Published output: this cell cannot run here, ${result.message}. Run it with: ${command()}`);
          continue;
        }
        show(cell, result.outputs);
        live += 1;
        banner.hidden = false;
        banner.textContent = `Live: the outputs of ${live} of ${cells.length} cells, marked by a line, with ${shown}. Published: the text and all else.`;
        if (result.state === "failed") {
          note(cell, "failed", result.message);
          throw new Error(`Cell ${index + 1} of ${cells.length} failed; the cells after it are as published.`);
        }
      }
      status.textContent = `Done: ${live} of ${cells.length} cells ran here.`;
      state("done");
    } catch (error) {
      if (mine !== current) return;
      status.textContent = error.message;
      state("failed");
    } finally {
      if (mine === current) stop.disabled = true;
    }
  }

  const halt = () => {
    current += 1;
    end();
    stop.disabled = true;
    state("idle");
    status.textContent = "Stopped.";
  };

  bar.addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  stop.addEventListener("click", halt);
  find("reset").addEventListener("click", () => {
    if (!stop.disabled) halt();
    current += 1;
    bar.reset();
    restore();
    alert.textContent = "";
    banner.hidden = true;
    for (const p of parameters) field(p.name).removeAttribute("aria-invalid");
    status.textContent = "As published.";
    state("idle");
  });
  return { put, refusal, parameters, cells: cells.map(source), start };
})();
