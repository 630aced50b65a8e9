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
  const status = find("status"), alert = find("alert"), stop = find("stop"), result = find("result");
  const root = document.documentElement;
  const state = (now) => (root.dataset.liveState = now);
  const make = (tag, given) => Object.assign(document.createElement(tag), given);
  const banner = make("p", { className: "live-banner", hidden: true });
  document.querySelector("article").append(banner);
  state("idle");

  /* --- what a parameter may be: as `companion run` reads it --------------------------------------------------- */

  const spelt = {
    int: /^[+-]?\d{1,1000}$/,
    float: /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/,
    bool: /^(true|false)$/i,
    str: /^(?: |[^\p{C}\p{Z}])+$/u, // what Python calls printable
  };
  const value = { int: (text) => BigInt(text.replace("+", "")), float: Number, bool: String, str: String };
  const end = (text) => {
    if (text === "2^63") return 2n ** 63n;
    return /^[+-]?\d+$/.test(text) ? BigInt(text.replace("+", "")) : Number(text.replace("inf", "Infinity"));
  };
  /* `allowed` says it in words: "int in [2, 32]", "one of a, b", "a list with spaces between, of a, b, none twice". */
  const fits = (p, kind, text) => {
    if (!spelt[kind].test(text)) return false;
    const read = value[kind](text);
    const range = p.allowed.match(/ in ([[(])(.+), (.+)([\])])/);
    if (range && !(range[1] === "[" ? read >= end(range[2]) : read > end(range[2]))) return false;
    if (range && !(range[4] === "]" ? read <= end(range[3]) : read < end(range[3]))) return false;
    const words = p.allowed.match(/\bof (?!printable)(.+?)(?:, none twice)?$/)?.[1].split(", ");
    if (words && !words.some((word) => value[kind](word) === read)) return false;
    return kind !== "float" || Number.isFinite(read);
  };
  const refusal = (p, text) => {
    const words = text.split(" ");
    const kind = p.list && p.allowed.includes("whole numbers") ? "int" : p.type;
    const plain = (word) => fits(p, kind, word) && String(value[kind](word)) === word;
    const right = p.list ? words.every(plain) && new Set(words).size === words.length : fits(p, kind, text);
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

  async function bring(alive) {
    const all = files.reduce((sum, [, size]) => sum + size, 0);
    let have = 0;
    const more = (bytes) => {
      have += bytes;
      if (alive()) status.textContent = `Loading the runtime: ${MB(have)} of ${MB(all)} MB.`;
    };
    more(0);
    for (const [name, size] of files) {
      if (!alive()) throw new Error("stopped");
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
  let quit = () => {};
  async function begin() {
    let alive = true;
    quit = () => (alive = runtime = undefined);
    state("loading");
    if (!companionRun.worker) await load(new URL("worker.js", here).href);
    await bring(() => alive);
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
    quit = () => {
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
  const start = () => {
    if (runtime) return runtime;
    const mine = begin().catch((error) => {
      if (runtime === mine) runtime = undefined;
      throw error;
    });
    return (runtime = mine);
  };

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

  /* --- what the reader starts: one job at a time ---------------------------------------------------------------- */

  let current = 0; // the job that counts; an older one gives up when it notices
  async function job(work) {
    const mine = ++current;
    const still = () => mine === current;
    alert.textContent = "";
    result.hidden = true;
    stop.disabled = false;
    try {
      const call = await start();
      if (still()) state("running");
      if (still()) await work(call, still);
      if (still()) state("done");
    } catch (error) {
      if (!still()) return;
      alert.textContent = error.message;
      state("failed");
    } finally {
      if (still()) stop.disabled = true;
    }
  }
  function report(text, name, data) {
    result.hidden = false;
    result.querySelector("pre").textContent = text;
    const link = result.querySelector("a");
    link.hidden = !data;
    if (data) Object.assign(link, { href: URL.createObjectURL(new Blob([data])), download: name, textContent: `Download ${name}` });
  }

  function run() {
    for (const p of parameters) field(p.name).removeAttribute("aria-invalid");
    const wrong = parameters.find((p) => refusal(p, given(p)));
    if (wrong) {
      alert.textContent = refusal(wrong, given(wrong));
      field(wrong.name).setAttribute("aria-invalid", "true");
      return field(wrong.name).focus();
    }
    const values = Object.fromEntries(parameters.map((p) => [p.name, [p.type, given(p)]]));
    const chosen = parameters.map((p) => `${p.name} = ${given(p)}`).join(", ");
    return job(async (call, still) => {
      for (const p of parameters) {
        const [file] = field(p.name).files ?? [];
        if (file) await call("write", { name: given(p), data: await small(file) });
      }
      restore();
      let live = 0;
      for (const [index, cell] of cells.entries()) {
        status.textContent = `Running cell ${index + 1} of ${cells.length}.`;
        cell.classList.add("live-now");
        const own = cell.matches(".tag_parameters") ? values : {};
        const done = call("run", { number: index + 1, source: source(cell), values: own });
        const { state, message, outputs } = await done.finally(() => cell.classList.remove("live-now"));
        if (!still()) return;
        if (state === "elsewhere") {
          note(cell, state, `Published output: this cell cannot run here, ${message}. To run it: ${command()}`);
          continue;
        }
        show(cell, outputs);
        live += 1;
        banner.hidden = false;
        banner.textContent =
          `Live: the outputs of ${live} of ${cells.length} cells, those with a line beside them, for ${chosen}. ` +
          "As published: the text and all else.";
        if (state === "failed") {
          note(cell, state, message);
          status.textContent = `${live - 1} of ${cells.length} cells ran here.`;
          throw new Error(`Cell ${index + 1} of ${cells.length} failed; those after it are as published.`);
        }
      }
      status.textContent = `Done: ${live} of ${cells.length} cells ran here.`;
      const proof = await call("certificate");
      if (proof && still()) report("The certificate of this page's witness, which proves it by itself:", "certificate.json", proof);
    });
  }

  /* --- files of the reader's: they stay here -------------------------------------------------------------------- */

  const LARGEST = 64e6;
  async function small(file) {
    if (file.size > LARGEST) throw new Error(`${file.name} has ${MB(file.size)} MB; allowed: at most ${MB(LARGEST)} MB.`);
    return file.arrayBuffer();
  }
  const ask = (input, call, name, ...given) =>
    job(async (python, still) => {
      const [file] = input.files;
      status.textContent = `Reading ${file.name}.`;
      await python("write", { name, data: await small(file) });
      const { said, refused } = await python("answer", { call, given: [name, ...given] });
      if (!still()) return;
      status.textContent = "";
      if (refused) throw new Error(`${file.name} is refused: ${refused}`);
      if (call === "recheck") report(said);
      else report(said, "unitary.safetensors", await python("read", { name: "unitary.safetensors" }));
    });
  const convert = find("convert"), recheck = find("recheck");
  let used; // a field reports a change when it is left: what was converted with it already stays
  const again = ({ target }) => {
    const options = [field("bound").value, field("nonlinearity").value];
    if (!convert.files.length || (target !== convert && String(options) === used)) return;
    used = String(options);
    ask(convert, "convert", "network.safetensors", ...options);
  };
  if (convert) for (const input of [convert, field("bound"), field("nonlinearity")]) input.addEventListener("change", again);
  recheck?.addEventListener("change", () => recheck.files.length && ask(recheck, "recheck", "dropped.json"));
  const student = parameters.map((p) => field(p.name)).find((input) => input.type === "file");
  student?.addEventListener("change", () => student.files.length && run());

  bar.addEventListener("dragover", (event) => (event.preventDefault(), bar.classList.add("live-over")));
  bar.addEventListener("dragleave", () => bar.classList.remove("live-over"));
  bar.addEventListener("drop", (event) => {
    event.preventDefault();
    bar.classList.remove("live-over");
    const [file] = event.dataTransfer.files;
    const input = file && [...bar.querySelectorAll("input[type=file]")].find((i) => file.name.endsWith(i.accept));
    if (!input) return (alert.textContent = `${file?.name ?? "This"} is not what this bar takes.`);
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change"));
  });

  /* --- its buttons ---------------------------------------------------------------------------------------------- */

  const halt = (words) => {
    current += 1;
    if (!stop.disabled) quit();
    stop.disabled = true;
    alert.textContent = "";
    status.textContent = words;
    state("idle");
  };
  bar.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!find("run").disabled) run();
  });
  stop.addEventListener("click", () => halt("Stopped. What has run stays."));
  find("reset").addEventListener("click", () => {
    halt("As published.");
    bar.reset();
    restore();
    result.hidden = banner.hidden = true;
    for (const p of parameters) field(p.name).removeAttribute("aria-invalid");
  });
  return { put, refusal, parameters, cells: cells.map(source), start };
})();
