"use strict";
// One chart: draw the panel and the view that its controls say.
const all = JSON.parse(document.getElementById("data").textContent);
const symbols = { circle: "●", square: "■", "triangle-up": "▲", "triangle-down": "▼", diamond: "◆", line: "━" };

function chosen(figure) {
  const select = figure.querySelector("select");
  const radio = figure.querySelector("input[type=radio]:checked");
  return {
    panel: Number(select.value),
    view: radio ? Number(radio.value) : 0,
    words: [select.selectedOptions[0].text, radio ? radio.parentElement.textContent : ""].filter(Boolean).join(" · "),
  };
}

function showLegend(figure, entries) {
  const items = entries.map((entry) => {
    const item = document.createElement("li");
    const mark = document.createElement("span");
    mark.textContent = symbols[entry.mark];
    mark.style.color = entry.colour;
    mark.setAttribute("aria-hidden", "true");
    item.append(mark, " " + entry.label);
    return item;
  });
  figure.querySelector(".legend").replaceChildren(...items);
}

async function draw(figure) {
  const chart = all[figure.dataset.chart];
  const { panel, view, words } = chosen(figure);
  const ofPanel = (rows) => rows.filter((row) => row.panel === panel);
  const datasets = Object.fromEntries(Object.entries(chart.data).map(([name, rows]) => [name, ofPanel(rows)]));
  showLegend(figure, ofPanel(chart.legend));
  figure.querySelector(".printed").textContent = words;
  const place = figure.querySelector(".plot");
  const tooltip = { disableDefaultStyle: true };
  const options = { mode: "vega-lite", actions: false, renderer: "svg", defaultStyle: false, tooltip };
  if (figure.drawn) figure.drawn.finalize();
  figure.drawn = await vegaEmbed(place, { ...chart.views[view], datasets }, options);
  figure.dataset.view = view;
}

for (const figure of document.querySelectorAll(".chart")) {
  figure.addEventListener("change", () => draw(figure));
  draw(figure);
}

// The filter: rows that contain every word.
const rows = [...document.querySelectorAll("#every-record tbody tr")];
const texts = rows.map((row) => row.textContent.toLowerCase());
document.getElementById("filter").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  rows.forEach((row, place) => {
    row.hidden = !words.every((word) => texts[place].includes(word));
    shown += !row.hidden;
  });
  document.getElementById("shown").value = `${shown} of ${rows.length}`;
});

// Paper shows what is folded on the screen.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((each) => (each.open = true));
});
addEventListener("afterprint", () => folded.forEach((each) => (each.open = false)));
