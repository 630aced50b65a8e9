/* Figures that are computed here, in the reader's browser: <div class="live-drawing" data-drawing=NAME>. */
(() => {
  const range = (n) => Array.from({ length: n }, (_, i) => i);
  const relu = (z) => (z > 0 ? z : 0);

  /* The network of the figure and its unitary equal. W = rho R with R orthogonal (a product of rotations in
     neighbouring coordinates) has the singular value decomposition R (rho I) I, so that
     U = [[rho R, c R], [c I, -rho I]], c = sqrt((1 - rho)(1 + rho)). */
  function dilation({ n, rho, M, steps = 60 }) {
    let R = range(n).map((i) => range(n).map((j) => (i === j ? 1 : 0)));
    for (const i of range(n - 1)) {
      const [c, s] = [Math.cos(0.9 + i), Math.sin(0.9 + i)];
      R = R.map((row) => row.map((v, j) =>
        j === i ? c * v + s * row[i + 1] : j === i + 1 ? c * v - s * row[i] : v));
    }
    const c = Math.sqrt((1 - rho) * (1 + rho));
    const W = R.map((row) => row.map((v) => rho * v));
    const U = [
      ...range(n).map((i) => [...W[i], ...R[i].map((v) => c * v)]),
      ...range(n).map((i) => [...range(n).map((j) => (i === j ? c : 0)), ...range(n).map((j) => (i === j ? -rho : 0))]),
    ];
    const F = range(n).map((i) => Math.cos(2 * i + 0.5));
    const b = range(n).map((i) => 0.3 * Math.sin(3 * i + 1));
    const x = range(steps).map((k) => Math.sin(1.7 * k * k)); // at most 1 in modulus
    const run = (A, f, bias) => {
      let h = A.map(() => 0);
      return x.map((xk) => {
        const received = A.map((row, i) => row.reduce((sum, a, j) => sum + a * h[j], 0) + f[i] * xk + bias[i]);
        h = received.map(relu);
        return { received, h };
      });
    };
    const zero = range(n).map(() => 0);
    const given = run(W, F, b);
    const unitary = run(U, [...F, ...zero], [...b, ...range(n).map(() => -M)]);
    const norm = (v) => Math.hypot(...v);
    const radius = rho < 1 ? (norm(F) + norm(b)) / (1 - rho) : Infinity;
    const output = (s) => s.h.slice(0, n).reduce((a, v) => a + v, 0); // C = (1, ..., 1)
    const y = given.map(output), z = unitary.map(output);
    return {
      W, U, F, b, x, y, z,
      received: unitary.map((s) => s.received.slice(n)),
      enough: c * radius,
      least: c * Math.max(0, ...given.slice(0, -2).flatMap((s) => s.h)), // later ones reach no output shown
      difference: Math.max(...y.map((v, k) => Math.abs(v - z[k]))),
    };
  }

  const draw = {
    dilation(place) {
      const sliders = [
        ["n", "states n", 1, 6, 1, 3],
        ["rho", "norm ρ of W", 0, 0.98, 0.02, 0.9],
        ["M", "bias M", 0, 3, 0.05, 1],
      ];
      place.innerHTML =
        `<form class="controls">${sliders.map(([key, label, min, max, step, value]) =>
          `<label>${label} <input type="range" name="${key}" min="${min}" max="${max}" step="${step}" value="${value}">` +
          `<output>${value}</output></label>`).join("")}</form>` +
        `<p class="key"><span class="solid">given network</span> <span class="dashes">unitary network</span> ` +
        `<span class="area">a new state above 0</span></p>` +
        `<svg role="img" aria-label="${place.dataset.alt}"></svg><p class="said" role="status"></p>`;
      const form = place.querySelector("form"), svg = place.querySelector("svg");
      const update = () => {
        const given = Object.fromEntries(sliders.map(([key]) => [key, +form.elements[key].value]));
        sliders.forEach(([key], i) => (form.querySelectorAll("output")[i].textContent = given[key]));
        const found = dilation(given);
        form.elements.M.max = Math.max(3, Math.ceil(found.enough)); // so that enough can be reached
        const steps = found.x.length, wide = Math.min(640, Math.max(320, place.clientWidth));
        const X = (k) => 60 + ((wide - 70) * k) / (steps - 1);
        svg.setAttribute("viewBox", `0 0 ${wide} 360`);
        const panel = (curves, low, high, y0, height, label) => {
          const Y = (v) => y0 + height * (1 - (v - low) / (high - low || 1));
          const path = (values) => values.map((v, k) => `${X(k).toFixed(1)},${Y(v).toFixed(1)}`).join(" ");
          const tick = (v) => `<text x="52" y="${Y(v) + 4}" class="tick">${+v.toFixed(1)}</text>`;
          return `<text transform="translate(16 ${y0 + height / 2}) rotate(-90)">${label}</text>` + tick(low) + tick(high) +
            `<line x1="60" x2="${wide - 10}" y1="${Y(0)}" y2="${Y(0)}" class="zero"/>` +
            curves.map(([values, kind]) => (kind.includes("woken")
              ? `<polygon class="${kind}" points="${X(0)},${Y(0)} ${path(values.map(relu))} ${X(steps - 1)},${Y(0)}"/>`
              : `<polyline class="${kind}" points="${path(values)}"/>`)).join("");
        };
        const top = Math.max(...found.y, ...found.z, 1e-9);
        const units = range(given.n).map((i) => found.received.map((row) => row[i]));
        const all = [0, ...units.flat()];
        svg.innerHTML =
          panel([[found.y, "given"], [found.z, "equal"]], 0, top, 14, 140, "output") +
          panel(units.flatMap((u) => [[u, "new"], [u, "woken"]]), Math.min(...all), Math.max(...all, 0.1), 182, 132, "new states") +
          `<text x="${wide / 2 + 25}" y="350">step, 0 to ${steps - 1}</text>`;
        const up = (v) => (Math.ceil(100 * v) / 100).toFixed(2); // rounded down it would not be enough
        const woken = units.flat().some((v) => v > 0);
        place.querySelector(".said").textContent =
          `The given network has ${given.n} state${given.n > 1 ? "s" : ""}, the unitary one ${2 * given.n}. ` +
          (found.difference === 0 ? "The outputs are equal, to the bit. " : `The outputs differ by up to ${found.difference.toPrecision(2)}. `) +
          (woken ? "A new state has switched on. " : "The new states stay silent. ") +
          `For these inputs M = ${up(found.least)} would be enough, for all inputs of this size M = ${up(found.enough)}.`;
        place.dataset.difference = found.difference;
      };
      form.addEventListener("input", update);
      form.addEventListener("submit", (event) => event.preventDefault());
      new ResizeObserver(update).observe(place);
    },
  };
  window.companionLive = { dilation };
  document.querySelectorAll("[data-drawing]").forEach((place) => draw[place.dataset.drawing](place));
})();
