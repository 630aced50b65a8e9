/* Draws the figures of companion.figures.explore with Observable Plot: see src/companion/figures/explore.py. */
(() => {
  const make = (name, given = {}, ...inside) => {
    const node = Object.assign(document.createElement(name), given);
    node.append(...inside);
    return node;
  };
  const shown = (v) => (v == null ? "diverged" : v.toFixed(4));

  function start(figure) {
    const data = JSON.parse(figure.querySelector("script").textContent);
    const drawing = figure.querySelector(".drawing");
    const models = Object.keys(data.models);
    const run = data.run;

    const selects = Object.entries(data.choices).map(([name, allowed]) =>
      make("select", { name }, ...allowed.map((a) => make("option", { value: a }, a)))
    );
    const tick = (name, label, checked = true) =>
      make("label", {}, make("input", { type: "checkbox", name, checked }), label);
    const ticks = models.map((m) => tick(m, m));
    ticks.forEach((t, i) => (t.style.borderBottom = `3px solid ${data.models[models[i]].color}`));
    const extras = [tick("runs", `each ${run}`), tick("poster", "poster"), tick("all", "whole range", false)];
    const picker = make("input", { type: "range", min: 0, max: data.runs.length, value: 0, name: "run" });
    const said = make("output");
    const controls = make("form", { className: "controls" },
      make("div", {}, ...selects.map((s) => make("label", {}, `${s.name} `, s))),
      make("div", {}, ...ticks, ...extras),
      make("label", { className: "pick" }, run, picker, said)
    );
    const table = make("tbody");
    const numbers = make("details", {}, make("summary", {}, "The numbers"),
      make("div", { className: "scroll", tabIndex: 0 }, make("table", {},
        make("thead", {}, make("tr", {}, ...["model", data.axes[0], "mean", `${100 * data.level}% interval`, "runs", "diverged", "poster"]
          .map((t) => make("th", { scope: "col" }, t)))),
        table)));
    figure.insertBefore(controls, drawing);
    const chosen_text = make("p", { className: "chosen" }); // on paper there are no controls
    drawing.before(chosen_text);
    drawing.after(numbers);

    let svg, draw_run;
    const on = (name) => controls.elements[name].checked;

    function draw() {
      if (drawing.clientWidth < 100) return; // not laid out yet: the observer below calls again
      const chosen = selects.map((s) => s.value);
      const signs = { circle: "●", square: "■", triangle: "▲", diamond: "◆" };
      chosen_text.replaceChildren(chosen.join(", "), ...models.filter(on).map((m) => {
        const sign = make("span", {}, `  ${signs[data.models[m].symbol]} ${m}`);
        sign.style.color = data.models[m].color;
        return sign;
      }));
      const here = (g) => g.chosen.every((c, i) => c === chosen[i]) && on(g.model);
      const groups = data.groups.filter((g) => g.model in data.models && here(g));
      const level = data.levels.find((l) => l.chosen.every((c, i) => c === chosen[i]));
      const visible = models.filter(on);
      const dodge = (g) => g.x + 0.16 * (visible.indexOf(g.model) - (visible.length - 1) / 2);
      const points = groups.flatMap((g) =>
        g.values.map((y, i) => ({ x: g.x, at: dodge(g), y, run: i, model: g.model }))
      ).filter((p) => p.y != null);
      const means = groups.filter((g) => g.mean.length)
        .map((g) => ({ x: g.x, y: g.mean[0], low: g.mean[1] ?? g.mean[0], high: g.mean[2] ?? g.mean[0], model: g.model }));
      const read = on("poster") ? groups.filter((g) => g.poster.length)
        .map((g) => ({ x: g.x, y: g.poster[0], u: g.poster[1], model: g.model })) : [];

      const all = [...points.map((p) => p.y), ...read.map((p) => p.y), level?.value].filter((v) => v != null);
      const top = Math.max(...all), low = on("all") ? Math.min(...all) : d3.quantile(all, 0.08);
      const pad = 0.06 * (top - low);
      const width = drawing.clientWidth, height = Math.max(320, Math.min(420, width * 0.62));
      const color = (d) => data.models[d.model].color;
      const each = (f) => visible.flatMap((m) => f(m, data.models[m]));
      const of = (list, m) => list.filter((d) => d.model === m);
      const marks = [
        level && Plot.ruleY([level.value], { stroke: "var(--ink)", strokeDasharray: "2 4" }),
        ...each((m, l) => [
          Plot.areaY(of(means, m), { x: "x", y1: "low", y2: "high", fill: l.color, fillOpacity: 0.18, clip: true }),
          on("runs") && Plot.dot(of(points, m), { x: "at", y: "y", r: 2, fill: l.color, fillOpacity: 0.45, clip: true }),
          Plot.line(of(means, m), { x: "x", y: "y", stroke: l.color, strokeWidth: 2, strokeDasharray: l.dash, clip: true }),
          Plot.dot(of(means, m), { x: "x", y: "y", r: 4, symbol: l.symbol, fill: l.color, clip: true }),
        ]),
        Plot.ruleX(read, { x: "x", y1: (d) => d.y - d.u, y2: (d) => d.y + d.u, stroke: color, clip: true }),
        Plot.dot(read, { x: "x", y: "y", r: 5, symbol: "times", stroke: color, strokeWidth: 2, clip: true }),
        on("runs") && Plot.tip(points, Plot.pointer({
          x: "at", y: "y", fill: "var(--pst-color-background)",
          title: (d) => `${run} ${data.runs[d.run]}, ${d.model}\n${data.axes[0]}: ${d.x}\n${data.axes[1]}: ${d.y.toFixed(4)}`,
        })),
      ].filter(Boolean);
      svg = Plot.plot({
        width, height, marginLeft: 52, marginBottom: 44, ariaLabel: data.alt,
        style: { fontSize: "13px", background: "transparent", color: "var(--ink)", fontFamily: "inherit", overflow: "visible" },
        x: { label: data.axes[0], ticks: [...new Set(groups.map((g) => g.x))], tickFormat: "d", inset: 14, labelAnchor: "center", labelArrow: "none" },
        y: { label: data.axes[1], domain: [low - pad, top + pad], grid: true, labelArrow: "none" },
        marks,
      });
      svg.querySelectorAll("[aria-label]").forEach((g) => g.removeAttribute("aria-label"));
      svg.setAttribute("role", "img"); // one picture, with its own label
      const layer = svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "g"));
      layer.setAttribute("class", "picked");
      draw_run = (i) => {
        layer.replaceChildren();
        if (i == null) return;
        const x = svg.scale("x").apply, y = svg.scale("y").apply, bottom = y(low - pad);
        for (const m of visible) {
          const path = of(points, m).filter((p) => p.run === i)
            .map((p) => `${x(p.at).toFixed(1)},${Math.min(y(p.y), bottom).toFixed(1)}`);
          const curve = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
          curve.setAttribute("points", path.join(" "));
          curve.setAttribute("stroke", data.models[m].color);
          layer.append(curve);
        }
        layer.dataset.run = data.runs[i];
      };
      svg.addEventListener("input", () => draw_run(svg.value ? svg.value.run : picked()));
      drawing.replaceChildren(svg);
      draw_run(picked());
      table.replaceChildren(...groups.map((g) => make("tr", {},
        ...[g.model, g.x, g.mean.length ? g.mean[0].toFixed(4) : "", g.mean.length > 1 ? `${g.mean[1].toFixed(4)} to ${g.mean[2].toFixed(4)}` : "",
          g.values.length, g.values.filter((v) => v == null).length, g.poster.length ? `${g.poster[0]} ± ${g.poster[1]}` : ""]
          .map((t) => make("td", {}, String(t))))));
    }
    const picked = () => (picker.value === "0" ? null : picker.value - 1);
    function say() {
      const text = picked() == null ? `${data.runs.length} of them` : `${data.runs[picked()]}`;
      said.textContent = text;
      picker.setAttribute("aria-valuetext", picked() == null ? "all" : `${run} ${text}`);
    }
    controls.addEventListener("input", (event) => {
      say();
      event.target === picker ? draw_run?.(picked()) : draw();
    });
    controls.addEventListener("submit", (event) => event.preventDefault());
    new ResizeObserver(() => svg?.getAttribute("width") != drawing.clientWidth && draw()).observe(drawing);
    say();
    draw();
  }
  document.querySelectorAll("figure.explore").forEach(start);
})();
