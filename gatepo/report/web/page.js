"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)");
  const hidden = new Set(); // groups that the reader has switched off, in all figures
  const choice = { singles: false, bands: true };
  const DASHES = { solid: "", dash: "6 3", dot: "2 3", dashdot: "7 3 2 3" };
  const BELOW = ["single", "band"]; // what lies below all others, the lowest last
  const plots = [];

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const channels = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const rgba = (rgb, alpha) => `rgba(${rgb.join(",")},${alpha})`;

  function look(figure, group) {
    const [place, pale, dash, mark] = figure.styles[group];
    const ground = channels(css("--ground"));
    const own = channels(data.colours[dark.matches ? "dark" : "light"][place]);
    const rgb = own.map((c, i) => Math.round(c + (ground[i] - c) * pale));
    return { rgb, colour: rgba(rgb, 1), dash, mark };
  }

  // What stands at a place of the page's list of runs.
  const named = (place) => `${data.runs[place].name}, seed ${data.runs[place].seed ?? "unknown"}`;

  function curves(figure, panel, group) {
    const found = data.curves[panel.curves].groups[group];
    if (!found) return [];
    const { rgb, colour, dash } = look(figure, group);
    const [x, y, low, high] = [data.x[found[0]], ...found.slice(1)];
    const traces = [];
    if (low && choice.bands)
      traces.push({
        x: [...x, ...x.slice().reverse()], y: [...high, ...low.slice().reverse()], fill: "toself", mode: "lines",
        line: { width: 0 }, fillcolor: rgba(rgb, 0.14), hoverinfo: "skip", kind: "band",
      });
    for (const place of choice.singles && low ? data.groups[group].runs : []) {
      const run = data.curves[panel.curves].runs[place];
      if (run)
        traces.push({
          x: data.x[run[0]], y: run[1], mode: "lines", line: { color: rgba(rgb, 0.45), width: 1 }, kind: "single",
          hovertemplate: `update %{x:.0f}: %{y:.4g}<extra>${escaped(named(place))}</extra>`,
        });
    }
    const range = low ? " (%{customdata[0]:.4g} to %{customdata[1]:.4g})" : "";
    traces.push({
      x, y, mode: "lines", line: { color: colour, width: 2, dash }, kind: "mean", connectgaps: true,
      customdata: low ? low.map((l, i) => [l, high[i]]) : undefined,
      hovertemplate: `update %{x:.0f}: %{y:.4g}${range}<extra>${escaped(figure.labels[group])}</extra>`,
    });
    return traces;
  }

  const escaped = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;");

  function lines(figure, panel, group) {
    const { colour, dash } = look(figure, group);
    return (panel.lines ?? []).filter(([g]) => g === group).map(([, x, y]) => ({
      x: data.x[x], y, mode: "lines", line: { color: colour, width: 2, dash }, kind: "line",
      hovertemplate: `%{x:.4g}: %{y:.4g}<extra>${escaped(figure.labels[group])}</extra>`,
    }));
  }

  function points(figure, panel, group) {
    const { rgb, mark } = look(figure, group);
    const own = (panel.points ?? []).filter(([g]) => g === group);
    const kinds = [own.filter((p) => p[3] !== null), own.filter((p) => p[3] === null)];
    return kinds.filter((kind) => kind.length).map((kind, i) => {
      const mean = kind[0][3] === null;
      return {
        x: kind.map((p) => p[1]), y: kind.map((p) => p[2]), mode: "markers", kind: mean ? "mean" : "run",
        text: kind.map((p) => escaped(mean ? `mean of ${data.groups[group].runs.length} runs` : named(p[3]) + (p[4] ? ", collapsed" : ""))),
        marker: {
          symbol: kind.map((p) => (p[4] ? "x-thin" : mark)), size: mean ? 12 : 8, color: rgba(rgb, mean ? 1 : 0.6),
          line: { width: kind.map((p) => (p[4] ? 2.2 : mean ? 1 : 0)), color: kind.map((p) => (p[4] ? rgba(rgb, 1) : css("--ground"))) },
        },
        hovertemplate: `%{text}<br>${panel.rows ? "%{x:.4g}" : "%{x:.4g}, %{y:.4g}"}<extra>${escaped(figure.labels[group])}</extra>`,
      };
    });
  }

  function traces({ figure, panel }) {
    const groups = Object.keys(figure.labels).map(Number);
    return groups.filter((group) => !hidden.has(group)).flatMap((group) => [
      ...(panel.curves && panel.groups.includes(group) ? curves(figure, panel, group) : []),
      ...lines(figure, panel, group),
      ...points(figure, panel, group),
    ]).sort((a, b) => BELOW.indexOf(b.kind) - BELOW.indexOf(a.kind)); // a stable sort: no band covers a line
  }

  function layout({ figure, panel }) {
    const axis = (title) => ({
      title: { text: title, font: { size: 12 }, standoff: 8 }, gridcolor: css("--grid"), zeroline: false, automargin: true,
      linecolor: css("--rule"), tickfont: { size: 11 }, tickcolor: css("--rule"),
    });
    const found = {
      autosize: true, showlegend: false, hovermode: "closest", uirevision: "kept", dragmode: coarse.matches ? false : "zoom",
      margin: { l: 48, r: 10, t: 30, b: 44 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--soft") },
      hoverlabel: { namelength: -1, bgcolor: css("--raised"), bordercolor: css("--rule"), font: { color: css("--ink"), size: 12 } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--soft"), activecolor: css("--ink") },
      xaxis: axis(panel.x), yaxis: axis(panel.y),
    };
    if (panel.log) Object.assign(found.xaxis, { type: "log", dtick: "D2" });
    if (panel.rows) {
      const groups = panel.groups;
      Object.assign(found.yaxis, { range: [groups.length - 0.4, -0.75], showticklabels: false, title: undefined, dtick: 1, tick0: 0 });
      found.margin.l = 10;
      found.annotations = groups.map((group, row) => ({
        xref: "paper", x: 0, xanchor: "left", y: row, yshift: 12, showarrow: false, text: escaped(figure.labels[group]),
        font: { size: 11.5, color: css(hidden.has(group) ? "--rule" : "--ink") },
      }));
    }
    return found;
  }

  const config = () => ({
    displaylogo: false, responsive: true, displayModeBar: coarse.matches ? true : "hover",
    modeBarButtons: [coarse.matches ? ["zoomIn2d", "zoomOut2d", "resetScale2d"] : ["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  });

  // The library takes a second to start: it does so once the words can be read.
  const painted = () => new Promise((done) => (document.hidden ? setTimeout(done) : requestAnimationFrame(() => setTimeout(done))));
  const ready = painted().then(() => {
    const script = document.createElement("script");
    script.textContent = document.getElementById("plotly").textContent;
    document.head.append(script);
  });

  async function draw(plot) {
    plot.stale = false;
    await ready;
    await Plotly.react(plot.node, traces(plot), layout(plot), config());
    plot.node.dataset.drawn = "1";
  }

  // One after another, so that the first is seen before the last is drawn.
  let line = ready;
  function drawInTurn(plot) {
    line = line.then(painted).then(() => plot.near && plot.stale && draw(plot)).catch(reportError);
  }

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const plot = plots.find(({ node }) => node === entry.target);
      plot.near = entry.isIntersecting;
      if (plot.near && plot.stale) drawInTurn(plot);
    }
  }, { rootMargin: "400px 0px" });

  function changed() {
    for (const plot of plots) plot.stale = true;
    for (const plot of plots) if (plot.near) draw(plot);
    for (const button of document.querySelectorAll(".legend button"))
      button.setAttribute("aria-pressed", String(!hidden.has(Number(button.dataset.group))));
    document.getElementById("all").disabled = !hidden.size;
  }

  function alone(group) {
    const others = data.groups.map((_, i) => i).filter((i) => i !== group);
    const is = others.every((i) => hidden.has(i));
    hidden.clear();
    if (!is) others.forEach((i) => hidden.add(i));
    changed();
  }

  function sample(figure, group) {
    const { colour, dash } = look(figure, group);
    return `<svg viewBox="0 0 30 12" aria-hidden="true"><line x1="1" x2="29" y1="6" y2="6" stroke="${colour}" stroke-width="3" stroke-dasharray="${DASHES[dash]}"/></svg>`;
  }

  function legend(node, figure) {
    node.replaceChildren(...Object.keys(figure.labels).map(Number).map((group) => {
      const button = document.createElement("button");
      const runs = data.groups[group].runs.length;
      button.type = "button";
      button.dataset.group = group;
      button.setAttribute("aria-pressed", String(!hidden.has(group)));
      button.innerHTML = `${sample(figure, group)}<span>${escaped(figure.labels[group])}</span>`;
      button.title = `${runs} run${runs > 1 ? "s" : ""}`;
      button.addEventListener("click", (event) => {
        if (event.detail === 2) return alone(group); // the second click of a double one
        hidden.has(group) ? hidden.delete(group) : hidden.add(group);
        changed();
      });
      return button;
    }));
  }

  const figures = data.figures.map((figure) => ({ figure, node: document.getElementById(figure.name) }));
  const legends = () => figures.forEach(({ figure, node }) => legend(node.querySelector(".legend"), figure));
  legends();
  for (const { figure, node } of figures)
    node.querySelectorAll(".plot").forEach((place, i) => {
      const panel = figure.panels[i];
      if (panel.rows) place.style.height = `${90 + 34 * panel.groups.length}px`;
      plots.push({ node: place, figure, panel, stale: true, near: false });
      seen.observe(place);
    });

  for (const name of ["singles", "bands"])
    document.getElementById(name).addEventListener("click", (event) => {
      choice[name] = !choice[name];
      event.currentTarget.setAttribute("aria-pressed", String(choice[name]));
      changed();
    });
  document.getElementById("all").addEventListener("click", () => { hidden.clear(); changed(); });
  dark.addEventListener("change", () => { legends(); changed(); });
  addEventListener("beforeprint", () => plots.forEach((plot) => plot.stale && draw(plot)));
  window.gatepo = { plots, drawAll: () => Promise.all(plots.filter((plot) => plot.stale).map(draw)) };
})();
